# SPDX-License-Identifier: MIT
wait_for /dev/nvme0n1
fact cpus "$(nproc)"
fact memory_kib "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)"
fact sha256 "$(blockio high /dev/nvme0n1 0 67108864 4 2>/tmp/lowest | sha256sum | cut -d' ' -f1)"
fact lowest "$(cat /tmp/lowest)"
blockio everywhere /dev/nvme0n1 128 >/tmp/areas || fail "DMA into memory all over failed"
fact areas "$(cat /tmp/areas)"
