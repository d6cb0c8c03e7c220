# SPDX-License-Identifier: MIT
# What the commands say is left for the judge beside what the kernel and lspci say. `try NAME STATUS PATTERN COMMAND...` is a
# command with the status and the words that are wanted.
try() {
	local case=$OUT/case.$1
	echo "$2 $3" >$case.wanted
	phase "case $1"
	shift 3
	"$@" >$case.said 2>&1 </dev/null
	echo $? >$case.status
}

for module in nvme-core nvme e1000e; do busybox insmod /run/lab/kernel/modules/$module.ko || fact host.missing $module; done
for driver in nvme:$NVME nvme:$FIRST nvme:$PF e1000e:$NIC; do
	[ -e /sys/bus/pci/devices/${driver#*:}/driver ] || echo "${driver#*:}" >/sys/bus/pci/drivers/${driver%%:*}/bind
done
until [ -e /dev/nvme0n1 ] && [ -e /sys/bus/pci/devices/$NIC/net ]; do sleep 0.1; done

# What the host is
for device in /sys/bus/pci/devices/*; do
	echo "${device##*/}|$(basename "$(readlink $device/driver)")|$(basename "$(readlink $device/iommu_group)")|$(cat $device/reset_method 2>/dev/null)|$(cat $device/sriov_totalvfs 2>/dev/null)"
	parent=$(basename "$(dirname "$(readlink -f $device)")")
	echo "${device##*/}|$(case $parent in pci*) ;; *) echo $parent ;; esac)" >>$OUT/above
done >$OUT/sysfs
lspci -Dvmmnn >$OUT/lspci.names
lspci -Dvv >$OUT/lspci.details
tenon devices --json >$OUT/devices.json
tenon devices >$OUT/devices.table
tenon devices $NVME $FIRST >$OUT/devices.one
tenon groups --json >$OUT/groups.json
tenon groups >$OUT/groups
tenon topology >$OUT/topology
tenon topology --json >$OUT/topology.json
tenon topology --dot >$OUT/topology.dot
tenon doctor --memory 512M >$OUT/doctor
fact doctor.status $?
fact doctor.problems "$(grep -c ^problem $OUT/doctor)"
chmod 755 $OUT/bin
try doctor-limited 1 'limit 65536 bytes, but a VM of 4G needs 4294967296.*memlock 4194304' \
	prlimit --memlock=65536:65536 setpriv --reuid=65534 --regid=65534 --clear-groups $OUT/bin/tenon doctor --memory 4G

# A disk with a file system on it
disk=$(basename /sys/bus/pci/devices/$NVME/nvme/nvme*)n1
mke2fs -q /dev/$disk
mkdir /tmp/mounted
mount /dev/$disk /tmp/mounted
try bind-mounted 1 "$NVME: the host uses it \(driver nvme\): /dev/$disk is mounted on /tmp/mounted; umount" tenon bind $NVME
try devices-mounted 0 "no, because /dev/$disk is mounted on /tmp/mounted; do: umount /tmp/mounted, then tenon bind $NVME" tenon devices $NVME
umount /tmp/mounted
mkdir /tmp/hidden
unshare -m sh -c "mount /dev/$disk /tmp/hidden; touch /tmp/mounted.there; exec sleep 1000" &
hidden=$!
until [ -e /tmp/mounted.there ]; do sleep 0.1; done
try bind-mounted-elsewhere 1 "something on the host has /dev/$disk for itself" tenon bind $NVME
kill $hidden
wait $hidden
until blockdev --rereadpt /dev/$disk; do sleep 0.1; done # refused as long as that mount is there
mkswap -q /dev/$disk >/dev/null
swapon /dev/$disk && try bind-swap 1 "/dev/$disk is swap; swapoff /dev/$disk" tenon bind $NVME
swapoff /dev/$disk 2>/dev/null

# To VFIO and back, with a reset in between
try reset-not-bound 1 "$NVME: is not bound to VFIO \(driver nvme\).*; tenon bind $NVME" tenon reset --plan $NVME
try bind-dry-run 0 "would go from nvme to vfio-pci" tenon bind --dry-run $NVME
try bind 0 "$NVME: vfio-pci, IOMMU group [0-9]+, /dev/vfio/devices/vfio[0-9]+, /dev/vfio/[0-9]+ \(was: nvme\).*tenon run.*--device $NVME" tenon bind $NVME
fact bound "$(driver_of $NVME)"
try devices-bound 0 "yes: tenon run" tenon devices $NVME
try reset-plan 0 "$NVME: reset of the function \(FLR or the like\), allowed: .*hits $NVME \(driver vfio-pci, IOMMU group [0-9]+\): itself" \
	tenon reset --plan $NVME
try reset-unconfirmed 1 "nothing was reset: not confirmed; --yes" tenon reset $NVME
try reset 0 "allowed.*done" tenon reset --yes $NVME
vfio_open "$(vfio_node $NVME)" $NVME 1000 >/tmp/holder &
holder=$!
until [ -s /tmp/holder ]; do sleep 0.1; done
try unbind-held 1 "$NVME: process $holder \(vfio_open\) has it through VFIO: $(vfio_node $NVME)" tenon unbind $NVME
try reset-held 1 "$NVME: process $holder \(vfio_open\) has it through VFIO" tenon reset --plan $NVME
try devices-held 0 "no, because process $holder \(vfio_open\) has it" tenon devices $NVME
kill $holder
wait $holder
try unbind 0 "$NVME: nvme, as before" tenon unbind $NVME
try bind-bridge 1 "is a bridge" tenon bind 0000:00:08.0

# A group, of which one member is in use
busybox ifconfig "$(basename /sys/bus/pci/devices/$NIC/net/*)" up
try bind-group-up 1 "$NIC: the host uses it \(driver e1000e\): network interface .* is up; ip link set .* down" tenon bind --group $FIRST
fact untouched "$(driver_of $FIRST)"
busybox ifconfig "$(basename /sys/bus/pci/devices/$NIC/net/*)" down
try bind-one 0 "not yet to be assigned: it shares IOMMU group [0-9]+ with $NIC \(driver e1000e\), which the host uses; tenon bind --group $FIRST" tenon bind $FIRST
try bind-group 0 "$NIC: vfio-pci.*was: e1000e.*next: tenon run --kernel FILE --device $FIRST --device $NIC" tenon bind --group $FIRST
try reset-both 0 "$NIC: .*allowed: .*done" tenon reset --yes $FIRST $NIC
try reset-group-plan 0 "hot reset of its slot or bus, allowed.*hits $FIRST .*given here too" tenon reset --plan --group $NIC
try unbind-group 0 "$FIRST: nvme, as before.*$NIC: e1000e, as before" tenon unbind --group $FIRST

# VFs of a PF that the host's driver has, and that nobody grabs
try vf-create 0 "next: tenon bind" tenon vf create $PF 2
try vf-create-again 1 "has 2 VFs already" tenon vf create $PF 3
fact vfs "$(cat /sys/bus/pci/devices/$PF/sriov_numvfs)"
vfs=$(for link in /sys/bus/pci/devices/$PF/virtfn*; do basename "$(readlink $link)"; done)
fact vf.drivers "$(for vf in $vfs; do driver_of $vf 2>/dev/null; done)"
fact autoprobe "$(cat /sys/bus/pci/devices/$PF/sriov_drivers_autoprobe)"
try vf-list 0 "$PF: 2 of 4 VFs, driver nvme" tenon vf list
try vf-bind 0 "next: tenon run" tenon bind $vfs
vf=${vfs%%[[:space:]]*}
vfio_open "$(vfio_node $vf)" $vf 1000 >/tmp/holder2 &
holder=$!
until [ -s /tmp/holder2 ]; do sleep 0.1; done
try vf-destroy-held 1 "its VF .* \(driver vfio-pci, IOMMU group [0-9]+\) is in use: process $holder" tenon vf destroy $PF
kill $holder
wait $holder
try vf-destroy 0 "2 VFs destroyed" tenon vf destroy $PF
fact vfs.left "$(cat /sys/bus/pci/devices/$PF/sriov_numvfs)"
fact notes "$(ls /run/tenon/bind)"
true
