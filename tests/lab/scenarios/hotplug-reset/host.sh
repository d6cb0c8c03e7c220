# SPDX-License-Identifier: MIT
SOCKET=/tmp/control
ctl() { tenon ctl $SOCKET "$@"; }
# said NAME TEXT: waits until the guest of this name has said so.
said() {
	local tries=0
	until grep -q "^@$2" $OUT/$1.serial 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] || { fact trouble "$1 never said $2"; return 1; }
		sleep 0.3
	done
}

count_no_boots
tenon_linux late --control $SOCKET --hotplug-ports 2 &
vm=$!
until ctl status 2>/dev/null; do sleep 0.3; done
ctl device-add $NVME || fact trouble "the first add"
said late boot1.sha256
ctl device-remove $NVME --timeout 60 || fact trouble "the removal after the reboot"
said late gone
ctl device-add $NVME || fact trouble "the second add"
wait $vm

APPEND="$APPEND lab=cold"
tenon_linux cold --device $NVME,root-port --control $SOCKET &
vm=$!
said cold cold.sha256
ctl device-remove $NVME --timeout 60 || fact trouble "the removal of the device from the start"
wait $vm
true
