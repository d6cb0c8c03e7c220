# SPDX-License-Identifier: MIT
# Reads every hot-plugged NVMe for as long as it is there, and the one that stays for as long as the VM runs. The guest only sees
# devices: it ends when one comes whose serial number is "end".
wait_for /dev/nvme0n1
echo 0 >/tmp/errors
echo 0 >/tmp/rounds

stay() {
	local rounds=0 sum first
	first=$(blockio read /dev/nvme0n1 0 1048576 | sha256sum)
	while [ ! -e /tmp/end ]; do
		sum=$(blockio read /dev/nvme0n1 0 1048576 | sha256sum)
		[ "$sum" = "$first" ] || echo 1 >/tmp/errors
		rounds=$((rounds + 1))
		echo $rounds >/tmp/rounds
		usleep 200000
	done
}

# Reads until the device leaves; one whole pass is the least.
serve() {
	local passes=0
	while blockio read /dev/$1 0 2097152 >/dev/null 2>&1; do
		passes=$((passes + 1))
		usleep 100000
	done
	[ $passes -gt 0 ] && echo $1 >>/tmp/served
	rm -f /tmp/busy.$1
}

stay &
staying=$!
touch /tmp/seen /tmp/served
fact slots "$(echo /sys/bus/pci/slots/*/power | wc -w)"
while :; do
	for node in /dev/nvme[0-9]*n1; do
		name=${node#/dev/}
		[ $name = nvme0n1 ] || [ ! -b $node ] || [ -e /tmp/busy.$name ] || {
			touch /tmp/busy.$name
			echo $name >>/tmp/seen
			serve $name &
		}
	done
	for end in /sys/class/nvme/*/serial; do
		[ "$(cat $end 2>/dev/null | tr -d ' ')" != end ] || break 2
	done
	usleep 100000
done
touch /tmp/end
wait $staying
fact stay.rounds "$(cat /tmp/rounds)"
fact stay.errors "$(cat /tmp/errors)"
fact hot.seen "$(wc -l </tmp/seen)"
fact hot.served "$(wc -l </tmp/served)"
