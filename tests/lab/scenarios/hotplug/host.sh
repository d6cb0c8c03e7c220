# SPDX-License-Identifier: MIT
SOCKET=/tmp/control
ctl() { tenon ctl $SOCKET "$@" 2>>$OUT/ctl.err; }

# until_true SECONDS COMMAND...: whether the command succeeds within that time.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.5
	done
}
in_use() { ctl devices | grep -q "^$1 .*in use"; }
absent() { ! ctl devices | grep -q "^$1 "; }

# cycle DEVICE COUNT: plugs it in, lets the guest read it, has the guest release it; again and again.
cycle() {
	local device=$1 count=$2 finished=0
	while [ $finished -lt $count ]; do
		ctl device-add $device >/dev/null || { fact refused $device; break; }
		until_true 30 in_use $device || { fact late $device; break; }
		sleep 1
		ctl device-remove $device --timeout 60 || { fact refused "removal of $device"; break; }
		finished=$((finished + 1))
		echo $device >>/tmp/cycles
	done
}

TIMEOUT=380
bind_driver $(device_path 11.0/00.0) vfio-pci
GONE=$(device_path 11.0/00.0)
tenon_linux guest --device $STAY --control $SOCKET --hotplug-ports 8 &
vm=$!
until_true 60 ctl status >/dev/null || fact late "the control socket"

phase "the guest boots"
ctl device-add $NET,on-error=reset >/dev/null || fact refused $NET
until_true 60 in_use $NET || fact late "$NET: $(ctl devices | grep $NET)"

phase "cycles"
: >/tmp/cycles
workers=
for i in 1 2 3 4 5 6 7; do
	hot=HOT$i
	cycle ${!hot} $((i == 1 ? 8 : 7)) &
	workers="$workers $!"
done
wait $workers
fact cycles $(wc -l </tmp/cycles)

phase "an error of the host"
busybox insmod /run/lab/kernel/modules/aer_inject.ko
aer_inject $NET
fact error.injected $?
until_true 30 grep -q "$NET: reset after an error" $OUT/guest.err || fact late "the reset"
until_true 60 in_use $NET && fact error.returned yes

phase "the host takes a device back"
ctl device-add $HOT1 >/dev/null && until_true 30 in_use $HOT1
timeout 60 sh -c "echo 1 >/sys/bus/pci/devices/$HOT1/remove" && until_true 10 absent $HOT1 && fact request.released yes
echo 1 >/sys/bus/pci/rescan
bind_driver $HOT1 vfio-pci

phase "a device of the host disappears"
ctl device-add $GONE >/dev/null && until_true 30 in_use $GONE
# The slot's power goes off by its register, and with it the emulated device at once, without a word to the host's driver of the
# slot; then power, presence and its interrupt are back, and the driver finds the slot empty.
setpci -s 00:11.0 CAP_EXP+18.w=07c0
setpci -s 00:11.0 CAP_EXP+18.w=11f9
until_true 60 absent $GONE && fact surprise.released yes

phase "removal by force"
ctl device-remove $NET --force && absent $NET && fact forced.removed yes

ctl device-add $END >/dev/null || fact refused $END
wait $vm
[ ! -e $SOCKET ] || fact socket.left yes
until_true 10 [ ! -e /sys/bus/pci/devices/$GONE ] || fact late "the host's removal of $GONE"
