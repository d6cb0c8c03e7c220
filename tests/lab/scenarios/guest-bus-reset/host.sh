# SPDX-License-Identifier: MIT
# The kernel's own functions are counted, with the bus and the device number of the struct pci_dev that they are called for: at
# offsets 128 of its bus (busn_res.start) and 56 of itself. A reset that is known by other means shows first that these are right.
tracing=/sys/kernel/tracing
[ -e $tracing/trace ] || mount -t tracefs tracing $tracing
where='number=+128(+16(%di)):u8 devfn=+56(%di):u32'
{
	echo "p:lab/flr pcie_flr $where"
	echo "p:lab/power pci_pm_reset probe=%si:u8 $where"
	echo "p:lab/bus pci_bridge_secondary_bus_reset $where"
} >$tracing/kprobe_events
echo 'probe == 0' >$tracing/events/lab/power/filter
echo 1 >$tracing/events/lab/enable

echo >$tracing/trace
hot_reset_sets $FIRST $SECOND >$OUT/known.sets 2>&1
cat $tracing/trace >$OUT/known.trace

# said VM FACT: waits until the guest says it, or its VM is gone
said() {
	until grep -q "^@$2=" /tmp/$1.serial 2>/dev/null; do
		! grep -q "^$1.status=" $OUT/facts || return 1
		sleep 0.2
	done
}

# mark TEXT: where the guest reads it, on the disk of the NVMe that is not to be reset
mark() { printf '%-512s' "$1" | dd of=$OUT/disk.img bs=512 seek=122880 conv=notrunc status=none; }

APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
for interface in iommufd container; do
	mark none
	tenon_linux $interface --iommu $interface --device $FIRST --device $SECOND --device $SERVED &
	for step in vfio setpci many power flr; do
		said $interface ready.$step || break
		phase "$interface: step $step"
		echo >$tracing/trace
		mark "go $step"
		said $interface did.$step || break
		cat $tracing/trace >$OUT/$interface.$step.trace
		mark "counted $step"
	done
	wait
done
true
