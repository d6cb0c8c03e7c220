# SPDX-License-Identifier: MIT
say "  up after $(cut -d' ' -f1 /proc/uptime) s: Linux $(uname -r), $(nproc) CPUs, an IOMMU, VFIO, iommufd and KVM, all emulated"
group=$(basename "$(readlink /sys/bus/pci/devices/$NVME/iommu_group)")
say "  NVMe at $NVME, IOMMU group $group, bound to vfio-pci: $(vfio_node $NVME)"

say ""
say "What tenon would do:  tenon run --dry-run ... --device $NVME"
$TENON run --dry-run --kernel $KERNEL --initrd $INITRD --append "$APPEND" --memory 256M --cpus 2 --device $NVME 2>&1 |
	sed 's/^/  | /' >>$OUT/report

say ""
say "tenon run --kernel bzImage --initrd guest.cpio --append '$APPEND' --memory 256M --cpus 2 --device $NVME"
touch /tmp/guest.serial
tail -n +1 -f /tmp/guest.serial 2>/dev/null | grep --line-buffered -v -e '^@' -e '^kvm_amd' | sed -u 's/^/  guest | /' >>$OUT/report &
tenon_linux guest --stats --device $NVME
sleep 0.5
kill $(jobs -p) 2>/dev/null
say "  tenon ended with status $(sed -n 's/^guest.status=//p' $OUT/facts) after $(sed -n 's/^guest.seconds=//p' $OUT/facts) s"
say "  VM exits that tenon handled, from power-on to power-off: $(sed -n 's/^stats: //p' $OUT/guest.err | tail -1)"
true
