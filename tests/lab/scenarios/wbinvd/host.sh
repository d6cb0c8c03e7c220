# SPDX-License-Identifier: MIT
# KVM's own functions are what is counted: the library only says which files the VM owns.
tracing=/sys/kernel/tracing
[ -e $tracing/trace ] || mount -t tracefs tracing $tracing
{
	echo 'p:lab/added vfio_file_set_kvm kvm=%si:x64'
	echo 'p:lab/removed vfio_file_set_kvm kvm=%si:x64'
	echo 'p:lab/registered kvm_arch_register_noncoherent_dma'
	echo 'p:lab/unregistered kvm_arch_unregister_noncoherent_dma'
} >$tracing/kprobe_events
echo 'kvm != 0' >$tracing/events/lab/added/filter
echo 'kvm == 0' >$tracing/events/lab/removed/filter
echo 1 >$tracing/events/lab/enable
count() { grep -c " $1: " $tracing/trace; }

for interface in iommufd container; do
	socket=/tmp/$interface.control
	echo >$tracing/trace
	tenon_linux $interface --iommu $interface --control $socket --device $NVME,root-port &
	for _ in $(seq 120); do
		tenon ctl $socket devices 2>/dev/null | grep -q "^$NVME .*in use" && break
		sleep 0.5
	done
	fact $interface.files.attached "$(count added) $(count removed)"
	fact $interface.attached "$(count registered) $(count unregistered)"
	tenon ctl $socket device-remove $NVME --timeout 60 2>>$OUT/ctl.err
	fact $interface.files.detached "$(count added) $(count removed)"
	# The VM still runs: the guest ends it a moment later.
	fact $interface.detached "$(count registered) $(count unregistered)"
	wait
	fact $interface.told "$(grep -o 'WBINVD' $OUT/$interface.err | head -1)"
done
