# SPDX-License-Identifier: MIT
echo "Linux $(uname -r), $(nproc) CPUs, $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB; /init after $(cut -d' ' -f1 /proc/uptime) s"
for device in /sys/bus/pci/devices/*; do
	driver=$(readlink $device/driver) && driver=", driver ${driver##*/}"
	echo "PCI ${device##*/}: class $(cat $device/class), $(cat $device/vendor):$(cat $device/device)$driver"
done
wait_for /dev/nvme0n1
echo "NVMe: $(cat /sys/block/nvme0n1/device/model | tr -s ' '), $(($(cat /sys/block/nvme0n1/size) / 2048)) MiB"
started=$(cut -d' ' -f1 /proc/uptime)
sha256=$(taskset 1 blockio read /dev/nvme0n1 0 67108864 | sha256sum | cut -d' ' -f1)
fact sha256 $sha256
echo "read all 64 MiB past the page cache, SHA-256 $sha256"
taskset 2 blockio write /dev/nvme0n1 33554432 16777216 0 || fail "the write failed"
echo "wrote 16 MiB; both took $(echo "$(cut -d' ' -f1 /proc/uptime) $started" | awk '{ printf "%.1f", $1 - $2 }') s"
echo "MSI-X interrupts of the NVMe's queues, by CPU: $(interrupts 'nvme0q[1-9]')"
echo "powering off"
