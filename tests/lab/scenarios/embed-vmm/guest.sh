# SPDX-License-Identifier: MIT
# This machine has no ACPI to power it off: the verdict ends it, a bad one too.
fail() {
	fact failed "$*"
	exit_vm 1
}

wait_for /dev/nvme0n1
fact interrupts.before "$(interrupts 'nvme0q[1-9]')"
fact sha256 "$(blockio read /dev/nvme0n1 0 67108864 | sha256sum | cut -d' ' -f1)"
blockio write /dev/nvme0n1 33554432 1048576 0x54656E6F6E000000 || fail "the write failed"
fact interrupts.after "$(interrupts 'nvme0q[1-9]')"
kernel_warnings
fact done 1
exit_vm 42
