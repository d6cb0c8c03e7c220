# SPDX-License-Identifier: MIT
lspci -vvvxxxx -s $PF >$OUT/host.lspci

# host_sizes BDF: as the kernel knows them: "0:0x4000 6:0x10000".
host_sizes() {
	awk 'NR <= 7 && $2 != "0x0000000000000000" { printf "%d:%s ", NR - 1, $1 " " $2 }' /sys/bus/pci/devices/$1/resource |
		sed 's/:\(0x[0-9a-f]*\) \(0x[0-9a-f]*\) /:\1,\2 /g' | tr ' ' '\n' | while IFS=:, read -r bar first last; do
		[ -z "$bar" ] || printf '%d:0x%x ' $bar $((last - first + 1))
	done
}

# sample NAME BDF: the first 256 bytes of the device's own config space, again and again.
sample() {
	while [ ! -e /tmp/stop ]; do
		od -A n -v -t x1 -N 256 /sys/bus/pci/devices/$2/config | tr -d ' \n'
		echo
		sleep 0.5
	done >/tmp/samples.$1
}

rm -f /tmp/stop
for name in pf nic; do
	bdf=${name^^} bdf=${!bdf}
	fact $name.sizes "$(host_sizes $bdf)"
	fact $name.msi "$(setpci -s $bdf CAP_MSI.w >/dev/null 2>&1 && lspci -v -s $bdf | sed -n 's/.*\[\([0-9a-f]*\)\] MSI:.*/\1/p')"
	sample $name $bdf &
done
sleep 1
# Messages to random CPUs at random times: a guest may not survive that, the monitor must. One CPU, because each access is an exit, and
# exits of two CPUs without a pause are what the emulated host dies of.
plain=$APPEND
for attempt in 1 2 3; do
	fact attempts $attempt
	APPEND="$plain lab_seed=$attempt"
	TIMEOUT=100 tenon_linux guest$attempt --cpus 1 --device $PF,root-port --device $NIC && break
done
sleep 1
touch /tmp/stop
wait
cp /tmp/samples.* $OUT
