# SPDX-License-Identifier: MIT
trace=/sys/kernel/debug/tracing
SET_IRQS=0x3b6e IRQFD=0x4020ae76 ROUTING=0x4008ae6a
echo "cmd == $SET_IRQS || cmd == $IRQFD || cmd == $ROUTING" >$trace/events/syscalls/sys_enter_ioctl/filter

# count NAME: what was asked of VFIO and KVM for interrupts since the trace was emptied.
count() {
	grep -c "cmd: ${SET_IRQS#0x}" $trace/trace | { read -r n; fact "$1.set_irqs" "$n"; }
	grep -c "cmd: ${IRQFD#0x}" $trace/trace | { read -r n; fact "$1.irqfd" "$n"; }
	grep -c "cmd: ${ROUTING#0x}" $trace/trace | { read -r n; fact "$1.routing" "$n"; }
}

APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
plain=$APPEND
for vectors in 8 16 64; do
	APPEND="$plain lab_vectors=$vectors"
	: >$trace/trace
	echo 1 >$trace/events/syscalls/sys_enter_ioctl/enable
	tenon_linux vectors$vectors --device $WIDE
	echo 0 >$trace/events/syscalls/sys_enter_ioctl/enable
	count vectors$vectors
	cp $trace/trace $OUT/trace.$vectors
done
APPEND=$plain
tenon_linux affinity --device $MOVED
