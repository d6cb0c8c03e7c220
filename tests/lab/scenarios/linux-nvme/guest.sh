# SPDX-License-Identifier: MIT
wait_for /dev/nvme0n1
fact interrupts.before "$(interrupts 'nvme0q[1-9]')"
fact sha256 "$(taskset 1 blockio read /dev/nvme0n1 0 67108864 | sha256sum | cut -d' ' -f1)"
taskset 2 blockio write /dev/nvme0n1 33554432 16777216 0x54656E6F6E000000 || fail "the write failed"
fact interrupts.after "$(interrupts 'nvme0q[1-9]')"
