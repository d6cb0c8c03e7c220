# SPDX-License-Identifier: MIT
wait_for /dev/nvme0
fact ready 1
wait_for /dev/nvme1
nested_vfio sets
# The host takes one after the other.
while grep -q 0x0108 /sys/bus/pci/devices/*/class; do usleep 200000; done
