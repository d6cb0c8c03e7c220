# SPDX-License-Identifier: MIT
# The disk is shared by all three controllers, and with the host: the first sector of each 4 KiB is a mark for the others.
role=$(sed 's/.*role=\([a-z0-9]*\).*/\1/' /proc/cmdline)
mark() { printf '%-512s' "$2" | dd of=/dev/nvme0n1 bs=512 seek=$(($1 * 8)) oflag=direct conv=notrunc 2>/dev/null; }
read_mark() { blockio read /dev/nvme0n1 $(($1 * 4096)) 512 | head -c 4 | tr -d ' \0'; }
wait_mark() { until [ "$(read_mark $1)" = "$2" ]; do usleep 200000; done; }

wait_for /dev/nvme0n1
function=$(readlink -f /sys/class/nvme/nvme0/device)
[ -e $function/sriov_totalvfs ] && fact sriov visible || fact sriov hidden
fact sha256 "$(blockio read /dev/nvme0n1 4194304 2097152 | sha256sum | cut -d' ' -f1)"

case $role in
pf)
	nvme_virt /dev/nvme0 release || fail "the PF does not give its queues up"
	echo 1 >$function/reset || fail "the PF's reset failed"
	fact ready 1
	wait_mark 0 vfs
	for controller in 1 2; do
		nvme_virt /dev/nvme0 online $controller 2 1 || fail "VF $controller does not go online"
	done
	fact online 1
	wait_mark 0 end
	fact marks "$(read_mark 1) $(read_mark 2)"
	;;
vf1)
	mark 1 vf1
	wait_mark 2 vf2
	fact other "$(read_mark 2)"
	wait_mark 0 vms
	;;
vf2)
	mark 2 vf2
	wait_mark 1 vf1
	fact other "$(read_mark 1)"
	wait_mark 0 vms
	;;
esac
