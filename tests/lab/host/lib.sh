# SPDX-License-Identifier: MIT
# Functions for a scenario's host.sh. OUT is the run's folder outside, KERNEL and VMLINUX are the guest's kernel, INITRD its
# initial RAM disk, TENON the program under test, and each device's name in capitals holds its address (NVME=0000:00:04.0).

KERNEL=/run/lab/kernel/bzImage
VMLINUX=/run/lab/kernel/vmlinux
INITRD=$OUT/guest.cpio
TENON=$OUT/bin/tenon
set -a
. $OUT/environment # the LAB_ variables of whoever started the lab
set +a
APPEND="console=ttyS0 ${LAB_GUEST_LOG:-quiet}" # e.g. LAB_GUEST_LOG="loglevel=7 earlyprintk=ttyS0"
PATH=$OUT/bin:$PATH

# fact NAME VALUE: something for the judge to look at.
fact() {
	(
		flock 9 # several VMs may run
		echo "$1=$2" >>$OUT/facts
	) 9>/tmp/facts.lock
}

# phase TEXT: what goes on now; named when the run times out.
phase() { echo "$(cut -d' ' -f1 /proc/uptime) $*" >>$OUT/phases; }

# say TEXT: a line for whoever watches with `lab run --follow`.
say() { echo "$*" >>$OUT/report; }

# device_path "05.0/00.0": the address of the device at that way down from the root bus.
device_path() {
	local bdf= part
	for part in ${1//\// }; do
		if [ -z "$bdf" ]; then
			bdf=0000:00:$part
		else
			set -- /sys/bus/pci/devices/$bdf/????:??:$part
			bdf=${1##*/}
		fi
	done
	[ -e /sys/bus/pci/devices/$bdf ] && echo "$bdf"
}

# bind_driver BDF DRIVER: takes the device from the driver it has and gives it to DRIVER ("" for none).
bind_driver() {
	local device=/sys/bus/pci/devices/$1
	[ -e $device/driver ] && echo "$1" >$device/driver/unbind
	echo "${2:-}" >$device/driver_override
	[ -z "$2" ] || echo "$1" >/sys/bus/pci/drivers_probe
}

driver_of() { basename "$(readlink /sys/bus/pci/devices/$1/driver)"; }

# vfio_node BDF: the device's VFIO character device; its group's where the kernel has none for devices.
vfio_node() {
	if [ -d /dev/vfio/devices ]; then
		echo /dev/vfio/devices/"$(basename /sys/bus/pci/devices/$1/vfio-dev/vfio*)"
	else
		echo /dev/vfio/"$(basename "$(readlink /sys/bus/pci/devices/$1/iommu_group)")"
	fi
}

find_devices() {
	local name path driver bdf
	phase "binding devices"
	: >$OUT/devices
	while read -r name path driver; do
		bdf=$(device_path "$path")
		[ "$bdf" ] || { fact "host.missing" "$name"; continue; }
		[ "$driver" = none ] || bind_driver "$bdf" "$driver" || fact "host.unbound" "$name"
		declare -g "${name^^}=$bdf"
		echo "$name $bdf $(driver_of "$bdf")" >>$OUT/devices
	done <$OUT/devices.wanted
}

# tenon_run NAME [ARGUMENT...]: runs `tenon run` with the guest's serial port in NAME.serial and leaves the facts
# NAME.status and NAME.seconds. TIMEOUT (seconds) bounds it; the status is 124 then.
# The serial port goes to a file in memory, followed into the share: byte for byte into the share would take a guest minutes.
tenon_run() {
	local name=$1 serial=/tmp/$1.serial started status follower
	shift
	phase "VM $name runs"
	: >$serial
	tail -f -s 0.2 -n +1 $serial >$OUT/$name.serial &
	follower=$!
	started=$EPOCHREALTIME
	timeout -k 5 "${TIMEOUT:-150}" "$TENON" run --serial file:$serial "$@" >$OUT/$name.out 2>$OUT/$name.err </dev/null
	status=$?
	fact "$name.seconds" "$(seconds_since $started)"
	fact "$name.status" $status
	kill $follower
	wait $follower 2>/dev/null
	cp $serial $OUT/$name.serial
	phase "VM $name ended with status $status"
	return $status
}

# tenon_linux NAME [ARGUMENT...]: tenon_run with the lab's kernel and the scenario's guest; 2 vCPUs and 256 MiB unless said.
tenon_linux() {
	local name=$1
	shift
	case " $* " in *" --kernel "*) ;; *) set -- --kernel $KERNEL "$@" ;; esac
	case " $* " in *" --memory "*) ;; *) set -- --memory 256M "$@" ;; esac
	case " $* " in *" --cpus "*) ;; *) set -- --cpus 2 "$@" ;; esac
	tenon_run "$name" --initrd $INITRD --append "$APPEND" "$@"
}

# count_no_boots: the assigned disk says that the guest has not booted yet; its boot_number and count_boot are the other side.
count_no_boots() { echo 0 | dd of=$OUT/disk.img bs=512 seek=122880 conv=notrunc,sync status=none; }

seconds_since() { echo "$EPOCHREALTIME $1" | awk '{printf "%.2f", $1 - $2}'; }

# check_released: nothing that a VMM held is held any more, and each device can be opened again.
check_released() {
	local held name bdf driver
	phase "checking that everything was released"
	held=$(ps -eo pid=,comm= | awk '$2 ~ /^(tenon|qemu|kvm)/')
	fact released.processes "$(echo $held)"
	held=$(ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E '/dev/(vfio|iommu|kvm)|anon_inode:(kvm|\[?vfio|\[?iommu)')
	fact released.files "$(echo $held)"
	while read -r name bdf driver; do
		[ "$driver" = vfio-pci ] || continue
		fact "released.$name" "$(vfio_open "$(vfio_node "$bdf")" "$bdf" 2>&1)"
	done <$OUT/devices
}

developer_shell() {
	cat <<-END

		The lab's host: this machine's own root, read-only, with these devices:
		$(sed 's/^/  /' $OUT/devices)
		Writable: /tmp, /run, and $OUT, which outlives the host.
		Try:  tenon run --kernel \$KERNEL --initrd \$INITRD --append "\$APPEND" --memory 256M --cpus 2 --device \$NVME
		Leave with exit; Ctrl-A X kills the host.
	END
	set -a
	export KERNEL VMLINUX INITRD TENON APPEND OUT PATH
	while read -r name bdf _; do export "${name^^}=$bdf"; done <$OUT/devices
	stty rows "${lab_rows:-24}" cols "${lab_cols:-80}" 2>/dev/null
	cd /tmp && PS1='lab:\w# ' bash --norc -i
}
