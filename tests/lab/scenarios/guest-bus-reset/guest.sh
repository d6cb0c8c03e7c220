# SPDX-License-Identifier: MIT
# Each step resets the pair in a way of its own, while the host counts; a process reads and writes the other NVMe all the while.
at=/sys/bus/pci/devices
mkdir /tmp/serve /tmp/nested

# go STEP, did STEP: the host begins to count, the host has counted; both wait for it, and for the other NVMe to have served more
mark() { blockio read $disk 62914560 512 | tr -d '\0' | sed 's/ *$//'; }
rounds() { cat /tmp/serve/rounds; }
more_rounds() {
	local from=$(rounds) tries=0
	while [ $(rounds) -lt $((from + 2)) ]; do
		kill -0 $server || fail "the other NVMe serves no more in step $1"
		tries=$((tries + 1))
		[ $tries -lt 400 ] || fail "the other NVMe stands still in step $1"
		usleep 50000
	done
}
go() {
	started=$(rounds)
	fact ready.$1 1
	until [ "$(mark)" = "go $1" ]; do usleep 50000; done
}
did() {
	more_rounds $1
	fact served.$1 "$started $(rounds)"
	fact did.$1 1
	until [ "$(mark)" = "counted $1" ]; do usleep 50000; done
}

# within SECONDS COMMAND...: until it succeeds
within() {
	local tries=$(($1 * 10))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		usleep 100000
	done
}
drivers_work() { grep -q live $at/$first/nvme/nvme*/state && cat $at/$second/net/*/address >/dev/null; } 2>/dev/null
alive() {
	within 30 drivers_work
	fact alive.$1 "$(cat $at/$first/nvme/nvme*/state $at/$second/net/*/address 2>&1 | tr '\n' ' ' | sed 's/ $//')"
}
release() { for bdf in $first $second; do [ ! -e $at/$bdf/driver ] || echo $bdf >$at/$bdf/driver/unbind; done; }
ids() { echo $(setpci -s $first VENDOR_ID) $(setpci -s $second VENDOR_ID); }
bars() { for bdf in $first $second; do setpci -s $bdf BASE_ADDRESS_0 | sed -e 's/^0000000[0-9a-f]$/0/' -e t -e 's/.*/set/'; done | tr '\n' ' ' | sed 's/ $//'; }

within 30 ls /dev/nvme?n1 >/dev/null 2>&1 || fail "the guest sees no NVMe with a namespace"
disk=$(ls /dev/nvme?n1)
second=$(basename $(dirname $(grep -l 0x10d3 $at/*/device)))
first=${second%.*}.0
[ "$(cat $at/$first/class)" = 0x010802 ] || fail "the pair is not in one slot: $second has no NVMe beside it"
port=$(basename $(dirname $(readlink -f $at/$first)))
address=$(grep -lx "${first%.*}" /sys/bus/pci/slots/*/address)
slot=${address%/address}
fact place "$port $first $second $slot"
[ -e "$slot/power" ] || fail "the pair's slot has no power switch"
blockio serve $disk 33554432 1048576 /tmp/serve 2>/tmp/serve/errors &
server=$!
wait_for /tmp/serve/rounds
alive start

nested_vfio reset /tmp/nested $first $second &
nested=$!
until [ -e /tmp/nested/ready ]; do
	kill -0 $nested || fail
	usleep 50000
done
go vfio
touch /tmp/nested/go
until [ -e /tmp/nested/done ]; do
	kill -0 $nested || fail
	usleep 50000
done
did vfio
touch /tmp/nested/end
wait $nested
for bdf in $first $second; do
	echo >$at/$bdf/driver_override
	echo $bdf >$at/$bdf/driver/unbind
	echo $bdf >/sys/bus/pci/drivers_probe
done
alive vfio

release
fact held.bars "$(bars)"
go setpci
setpci -s $port BRIDGE_CONTROL=40:40
usleep 100000
fact held.ids "$(ids)"
setpci -s $port BRIDGE_CONTROL=0:40
back() { [ "$(ids)" = "1b36 8086" ]; }
within 20 back
did setpci
fact back.ids "$(ids)"
fact back.bars "$(bars)"
rescan() {
	for bdf in $first $second; do echo 1 >$at/$bdf/remove; done
	echo 1 >/sys/bus/pci/rescan
}
rescan
alive setpci

# Ten at once, without waiting for any
release
go many
setpci -s $port $(for _ in 1 2 3 4 5 6 7 8 9 10; do echo BRIDGE_CONTROL=40:40 BRIDGE_CONTROL=0:40; done)
within 60 back
did many
rescan
alive many

go power
echo 0 >$slot/power
gone() { [ ! -e $at/$first ] && [ ! -e $at/$second ]; }
within 30 gone || fail "the pair is still there though its slot has no power"
echo 1 >$slot/power
there() { [ -e $at/$first ] && [ -e $at/$second ]; }
within 30 there || fail "the pair is not there though its slot has power"
did power
alive power

echo $first >$at/$first/driver/unbind
echo flr >$at/$first/reset_method
go flr
echo 1 >$at/$first/reset || fail "the function-level reset failed"
did flr
echo $first >/sys/bus/pci/drivers_probe
alive flr

touch /tmp/serve/stop
wait $server
fact served $?
cat /tmp/serve/errors
