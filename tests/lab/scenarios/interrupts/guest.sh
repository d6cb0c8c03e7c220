# SPDX-License-Identifier: MIT
vectors=$(sed -n 's/.*lab_vectors=\([0-9]*\).*/\1/p' /proc/cmdline)
if [ "$vectors" ]; then
	give_to_vfio class 0x010802
	vectors $group $bdf $vectors || fail
	return
fi

modprobe nvme
wait_for /dev/nvme0n1
echo 3000 >/sys/block/nvme0n1/queue/io_timeout # a lost interrupt shows as a timeout
irq=$(awk '/nvme0q0/ { sub(":", ""); print $1 }' /proc/interrupts)
[ "$irq" ] || fail "the guest sees no interrupt of the NVMe"

# Both CPUs read all the time, 4 KiB at a time past the page cache.
load() {
	rounds=0
	until [ -e /tmp/stop ]; do
		taskset $1 blockio random /dev/nvme0n1 200 >/dev/null || return 1
		rounds=$((rounds + 1))
	done
	echo $rounds >/tmp/load.$1
}
load 1 &
load 2 &
moves=0
while [ $moves -lt 1000 ]; do
	moves=$((moves + 1))
	echo $((moves % 2 + 1)) >/proc/irq/$irq/smp_affinity || fail "move $moves was refused"
	usleep 5000
done
touch /tmp/stop
wait
fact moves $moves
[ ! -e /tmp/load.1 ] || [ ! -e /tmp/load.2 ] || fact load $(($(cat /tmp/load.1) + $(cat /tmp/load.2)))
fact sha256 "$(blockio read /dev/nvme0n1 0 67108864 | sha256sum | cut -d' ' -f1)"
fact interrupts "$(interrupts nvme0q0)"
