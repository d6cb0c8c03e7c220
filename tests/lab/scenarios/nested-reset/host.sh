# SPDX-License-Identifier: MIT
APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
TOKEN=7d1f3c0a-5b64-4e0c-9a53-31f2a6c0e9b4

# vms NAME ADDRESS...: the host's kernel is asked first, of these devices in one owner's hands; then tenon says what it would do with
# them, in words and as data; then a VM has them, by either interface, and says what it did.
vms() {
	local name=$1 bdf interface socket vm arguments=()
	shift
	phase "the host's sets of $name"
	hot_reset_sets "$@" >$OUT/$name.sets 2>$OUT/$name.sets.err
	fact $name.sets $?
	for bdf in "$@"; do echo $bdf $(basename "$(readlink /sys/bus/pci/devices/$bdf/iommu_group)"); done >$OUT/$name.groups
	for bdf in "$@"; do arguments+=(--device $bdf${options:-}); done
	phase "what tenon would do with $name"
	tenon run --dry-run --kernel $KERNEL --memory 64M --serial none "${arguments[@]}" >$OUT/$name.plan 2>$OUT/$name.plan.err </dev/null
	fact $name.plan $?
	for interface in iommufd container; do
		socket=/tmp/$name.$interface.control
		TIMEOUT=100 tenon_linux $name.$interface --iommu $interface --control $socket "${arguments[@]}" &
		vm=$!
		until tenon ctl $socket topology --json >$OUT/$name.$interface.topology 2>/dev/null || [ ! -e /proc/$vm ]; do sleep 0.2; done
		wait $vm
	done
}

vms whole $SINGLE $PAIR0 $PAIR1 $QUAD10 $QUAD11 $QUAD20 $QUAD23 $DOWN11 $DOWN21 $INNER1 $INNER2 $OLD1 $OLD3 $ROOT $NEAR11 $NEAR21 $PF

busybox insmod /run/lab/kernel/modules/e1000e.ko
bind_driver $SHARED2 e1000e
vms part $PART0 $SHARED1
tenon run --dry-run --json --kernel $KERNEL --memory 64M --serial none --device $PART0 --device $SHARED1 >$OUT/part.json 2>$OUT/part.json.err </dev/null
fact part.json $?
bind_driver $SHARED2 ""

# A PF that is opened is reset if it can be, and its VFs would be gone: this one has no reset of its own.
echo >/sys/bus/pci/devices/$PF/reset_method
echo Y >/sys/module/vfio_pci/parameters/enable_sriov
tenon vf create $PF 2 >$OUT/create 2>&1 || fact trouble "vf create"
vfs=$(for vf in /sys/bus/pci/devices/$PF/virtfn*; do basename "$(readlink $vf)"; done)
options=,vf-token=$TOKEN vms vfs $PF $vfs
tenon vf destroy $PF >$OUT/destroy 2>&1 || fact trouble "vf destroy"
true
