# SPDX-License-Identifier: MIT
# For each interface of the kernel: each device alone in a VM, then all of them in one. One VM at a time, of one CPU: the
# emulation now and then crashes one of several. The guest learns from its command line which devices it has and which part of the disks is its
# own to write.
# LAB_DEVICES="nvme e1000e" leaves the others out.
names=${LAB_DEVICES:-$(cut -d' ' -f1 $OUT/devices)}

# vm NAME TURN DEVICE...: a VM with these devices.
vm() {
	local name=$1 devices=${*:3} each assigned=()
	for each in $devices; do
		local -n address=${each^^}
		assigned+=(--device "$address")
	done
	assigned+=(--iommu ${name%.*})
	APPEND="$APPEND lab_turn=$2 lab_devices=${devices// /,}" tenon_linux "$name" --memory 128M --cpus 1 "${assigned[@]}"
}

# Debian's kernel has no iommufd: there the interface is for tenon to find.
[ -e /dev/iommu ] && interfaces="iommufd container" || interfaces=auto
turn=0
for interface in $interfaces; do
	for name in $names; do
		vm $interface.$name $turn $name
	done
	vm $interface.all $((turn + 1)) $names
	turn=$((turn + 2))
done
