# SPDX-License-Identifier: MIT
edu=$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)
edu=${edu%/device}
[ "$edu" ] || fail "the guest sees no edu device"
echo vfio-pci >$edu/driver_override
echo ${edu##*/} >/sys/bus/pci/drivers_probe
wait_for /dev/vfio/noiommu-0
edu /dev/vfio/noiommu-0 ${edu##*/} || fail
edu /dev/vfio/noiommu-0 ${edu##*/} storm 300 || fail
