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
	# The counter of boots lives on the assigned disk itself.
	boot=$(blockio read /dev/nvme0n1 62914560 512 | tr -d '\0')
	fact boot$boot.sha256 "$(sum)"
	if [ $boot = 0 ]; then
		echo 1 | dd of=/tmp/counter bs=512 conv=sync 2>/dev/null
		dd if=/tmp/counter of=/dev/nvme0n1 bs=512 seek=122880 conv=fsync 2>/dev/null || fail "could not write"
		kernel_warnings
		reboot -f
		sleep 60
		fail "the reboot did nothing"
	fi
	wait_gone
	fact gone 1
	wait_for /dev/nvme0n1
	fact again.sha256 "$(sum)"
fi
