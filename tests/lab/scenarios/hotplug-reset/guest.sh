# SPDX-License-Identifier: MIT
sum() { blockio read /dev/nvme0n1 0 8388608 | sha256sum | cut -d' ' -f1; }
wait_gone() {
	local tries=0
	while [ -e /dev/nvme0 ]; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || fail "the device is still there after 60 s"
		usleep 100000
	done
}

wait_for /dev/nvme0n1
if grep -q lab=cold /proc/cmdline; then
	fact cold.sha256 "$(sum)"
	wait_gone
else
	boot=$(boot_number)
	fact boot$boot.sha256 "$(sum)"
	if [ $boot = 0 ]; then
		count_boot
		reboot_vm
	fi
	wait_gone
	fact gone 1
	wait_for /dev/nvme0n1
	fact again.sha256 "$(sum)"
fi
