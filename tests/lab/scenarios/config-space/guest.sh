# SPDX-License-Identifier: MIT
device_of() {
	found=$(grep -l "$1" /sys/bus/pci/devices/*/class)
	found=${found%/class}
	[ "$found" ] || fail "the guest sees no device of class $1"
	echo ${found##*/}
}
pf=$(device_of 0x010802)
nic=$(device_of 0x020000)

fact pf.config "$(xxd -p -c 4096 /sys/bus/pci/devices/$pf/config | tr -d '\n')"
fact nic.config "$(xxd -p -c 4096 /sys/bus/pci/devices/$nic/config | tr -d '\n')"
fact pf.sizes "$(pcicfg size $pf)"
fact nic.sizes "$(pcicfg size $nic)"
echo "@lspci begins"
lspci -vvvxxxx || fail "lspci failed"
echo "@lspci ends"

seed=$(sed -n 's/.*lab_seed=\([0-9]*\).*/\1/p' /proc/cmdline)
pcicfg fuzz $pf 20 0x9e3779b97f4a7c1$seed >/tmp/pf.writes &
pcicfg fuzz $nic 20 0xd1b54a32d192ed0$seed >/tmp/nic.writes &
wait
fact pf.writes "$(cat /tmp/pf.writes)"
fact nic.writes "$(cat /tmp/nic.writes)"
