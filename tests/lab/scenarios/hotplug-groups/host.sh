# SPDX-License-Identifier: MIT
SOCKET=/tmp/control
ctl() { tenon ctl $SOCKET "$@"; }
# refused NAME ARGUMENT...: what ctl says
refused() {
	local name=$1
	shift
	ctl "$@" >$OUT/$name.out 2>$OUT/$name.refused
	fact $name.status $?
}
# said FACT: waits until the guest says it, or its VM is gone
said() {
	until grep -q "^@$1=" /tmp/guest.serial 2>/dev/null; do
		! grep -q "^guest.status=" $OUT/facts || return 1
		sleep 0.2
	done
}

hot_reset_sets $FIRST $SECOND $SINGLE >$OUT/sets 2>$OUT/sets.err || fact trouble "the host's sets"
APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
tenon_linux guest --control $SOCKET --hotplug-ports 2 --device $FIRST --device $SECOND &
said ready
refused add device-add $HALF0
refused remove device-remove $FIRST
ctl device-add $SINGLE || fact trouble "the device that has a group of its own does not come"
said devices
ctl topology --json >$OUT/both.topology
ctl device-remove $FIRST --group --timeout 60 || fact trouble "the pair does not go"
ctl topology --json >$OUT/left.topology
ctl device-remove $SINGLE --timeout 60 || fact trouble "the device that came does not go"
wait
true
