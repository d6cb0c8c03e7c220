# SPDX-License-Identifier: MIT
# The cases of reset-cdev and reset-group, on the machine of reset-cdev. Each is one run of resetter: its output, the kernel's
# trace of it, and what its bystander's config space was before and after. INTERFACE is resetter's option for the kernel's
# interface, or empty.

mkdir -p $OUT/cases
fact interface "${INTERFACE:-iommufd}"
tracing=/sys/kernel/tracing
[ -e $tracing/trace ] || mount -t tracefs tracing $tracing
echo 'p:lab/flr pcie_flr' >$tracing/kprobe_events
echo 'p:lab/power pci_pm_reset probe=%si:u8' >>$tracing/kprobe_events
echo 'p:lab/bus pci_bridge_secondary_bus_reset' >>$tracing/kprobe_events
echo 'probe == 0' >$tracing/events/lab/power/filter
echo 1 >$tracing/events/lab/enable

# What a host sees of a device that nobody may touch: a digest of its config space.
digest() { sha256sum </sys/bus/pci/devices/$1/config | cut -c1-16; }

# try NAME BYSTANDER ARGUMENT...: BYSTANDER is a device that must not change, or "-".
try() {
	local name=$1 bystander=$2
	shift 2
	phase "case $name"
	echo >$tracing/trace
	[ $bystander = - ] || digest $bystander >$OUT/cases/$name.bystander
	timeout -k 5 60 resetter $INTERFACE "$@" >$OUT/cases/$name.out 2>&1 </dev/null
	[ $bystander = - ] || digest $bystander >>$OUT/cases/$name.bystander
	cat $tracing/trace >$OUT/cases/$name.trace
}

# Leaves a device only what hits its whole slot or bus.
no_function_reset() { echo >/sys/bus/pci/devices/$1/reset_method; }

try function-level - $FLR
try power-cycle - $POWER
try no-method - --ask $NOTHING
try alone-behind-a-port - $LONE
try bus-before-power-cycle - $LONENIC

try function-level-in-a-shared-slot $FUN1 $FUN0
try guest-bus-before-function-level - --bus 2 $FUN1 $FUN0
try guest-bus-of-devices-that-reset-alone - --bus 2 $FLR $POWER $LONE
no_function_reset $FUN0
try slot-both-assigned - $FUN0 $FUN1
try slot-other-unopened - $FUN0
try slot-other-never $NOTHING $FUN0 $FUN1,none
try never - $FUN0,none
bind_driver $FUN1 pci-stub
try slot-other-stub $FUN1 --ask $FUN0
bind_driver $FUN1 ""
try slot-other-unbound $FUN1 --ask $FUN0
bind_driver $FUN1 vfio-pci

no_function_reset $LEFT
try switch-both-assigned - $LEFT $RIGHT
try space - --space $LEFT $RIGHT $FLR
try guest-bus - --bus 2 $LEFT $RIGHT $FLR
try guest-bus-without-one - --bus 1 $LEFT $RIGHT
try guest-bus-with-another - --bus 2 $LEFT $FLR
phase "dry run"
$TENON run --dry-run --json --kernel $KERNEL --memory 256M ${INTERFACE:+--iommu container} --device $FLR \
	--device $LEFT,reset=require --device $RIGHT >$OUT/cases/dry-run.json 2>$OUT/cases/dry-run.err
try require-both - $LEFT,require $RIGHT,require
try switch-other-unopened $RIGHT --ask $LEFT
try require-unopened $RIGHT $LEFT,require
mkfifo /tmp/leash
resetter $INTERFACE --hold $RIGHT </tmp/leash >$OUT/cases/holder.out &
holder=$!
exec 9>/tmp/leash
until grep -q ready $OUT/cases/holder.out; do
	[ -e /proc/$holder ] || break
	sleep 0.1
done
try switch-other-in-another-process $RIGHT --ask $LEFT
exec 9>&-
wait $holder
grep '^mark' $OUT/cases/holder.out >>$OUT/cases/switch-other-in-another-process.out
busybox insmod /run/lab/kernel/modules/e1000e.ko
bind_driver $RIGHT e1000e
try switch-other-host-driver $RIGHT --ask $LEFT
try require-host-driver $RIGHT $LEFT,require
bind_driver $RIGHT ""
try switch-other-unbound $RIGHT --ask $LEFT
bind_driver $RIGHT vfio-pci
try switch-power-cycle-remains $LEFT $RIGHT

try conventional-both - $OLD1 $OLD2
try conventional-other-unopened - $OLD1
try conventional-beside-a-bridge - --ask $BESIDE

no_function_reset $DEAD0
try broken-link $DEAD1 $DEAD0
true
