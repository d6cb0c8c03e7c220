# SPDX-License-Identifier: MIT
# tell WORD: writes it where the host looks, and waits for the host's answer in the same place.
tell() {
	printf %s "$1" | dd of=/tmp/word bs=4096 conv=sync 2>/dev/null
	dd if=/tmp/word of=/dev/nvme0n1 bs=4096 seek=16128 oflag=direct 2>/dev/null
	until [ "$(blockio read /dev/nvme0n1 66060288 512 | tr -d '\0')" = "go-$1" ]; do usleep 300000; done
}

wait_for /dev/nvme0n1
blockio random /dev/nvme0n1 100
tell ready
reads=$(awk '{ print $1 }' /sys/block/nvme0n1/stat)
came=$(interrupts 'nvme0q[1-9]')
blockio random /dev/nvme0n1 16384
reads_after=$(awk '{ print $1 }' /sys/block/nvme0n1/stat)
came_after=$(interrupts 'nvme0q[1-9]')
tell done
fact reads.before "$reads"
fact reads.after "$reads_after"
fact interrupts.before "$came"
fact interrupts.after "$came_after"
