# SPDX-License-Identifier: MIT
wait_for /dev/nvme0n1
give_to_vfio vendor 0x7e4e
testdev $group $bdf /dev/nvme0n1 0 50331648 2097152 /tmp/started /tmp/stop &
until [ -e /tmp/started ]; do
	kill -0 $! 2>/dev/null || fail
	usleep 100000
done

# The test device copies all the while.
copies=$(interrupts vfio-msix)
fact interrupts.before "$(interrupts 'nvme0q[1-9]')"
fact sha256 "$(taskset 1 blockio read /dev/nvme0n1 0 33554432 | sha256sum | cut -d' ' -f1)"
taskset 2 blockio write /dev/nvme0n1 33554432 16777216 0x54656E6F6E000000 || fail "the write failed"
fact interrupts.after "$(interrupts 'nvme0q[1-9]')"
fact copies.before "$copies"
fact copies.after "$(interrupts vfio-msix)"
touch /tmp/stop
wait $! || fail
