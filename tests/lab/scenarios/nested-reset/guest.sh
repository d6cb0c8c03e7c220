# SPDX-License-Identifier: MIT
number=0
for device in /sys/bus/pci/devices/*; do
	bdf=${device##*/}
	fact function.$number "$bdf $(basename $(dirname $(readlink -f $device))) $(pcicfg acs $bdf)"
	number=$((number + 1))
done
fact functions $number
nested_vfio sets
