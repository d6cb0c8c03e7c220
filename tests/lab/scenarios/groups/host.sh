# SPDX-License-Identifier: MIT
# `plan NAME ARGUMENT...` is a tenon run that must be refused before it comes to anything.
plan() {
	local name=$1
	shift
	tenon run --dry-run --kernel $KERNEL --memory 64M --serial none "$@" >$OUT/$name.out 2>$OUT/$name </dev/null
	fact $name.status $?
}

busybox insmod /run/lab/kernel/modules/e1000e.ko
echo $NIC >/sys/bus/pci/drivers/e1000e/bind 2>/dev/null
fact group "$(basename "$(readlink /sys/bus/pci/devices/$NVME/iommu_group)")"

tenon bind $NVME
for interface in iommufd container; do
	plan half.$interface --iommu $interface --device $NVME
done

# The command that the refusal names
$(sed 's/.*: \(tenon bind .*\)/\1/' $OUT/half.container)
for interface in iommufd container; do
	dd if=/dev/zero of=$OUT/disk.img bs=512 count=1 conv=notrunc status=none
	tenon_linux $interface --iommu $interface --device $NVME &
	vm=$!
	until grep -q '^@ready=1' /tmp/$interface.serial 2>/dev/null || ! kill -0 $vm 2>/dev/null; do sleep 0.2; done
	plan other.$interface --iommu $interface --device $NIC
	[ $interface = iommufd ] || fact devices.held "$(tenon devices $NIC | grep -c 'no, because process .* has it through VFIO')"
	printf 'go' | dd of=$OUT/disk.img conv=notrunc status=none
	wait $vm
done
tenon unbind $NVME $NIC
fact after.nvme "$(driver_of $NVME 2>/dev/null)"
fact after.nic "$(driver_of $NIC)"
