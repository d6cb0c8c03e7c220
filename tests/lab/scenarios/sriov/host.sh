# SPDX-License-Identifier: MIT
TOKEN=4f0c1c5e-92a7-4f0e-8d6b-0c2f9d0a7e11
WRONG=00000000-92a7-4f0e-8d6b-0c2f9d0a7e11
plain=$APPEND

# refused NAME COMMAND...
refused() {
	local name=$1
	shift
	"$@" >$OUT/refused.$name.out 2>$OUT/refused.$name </dev/null
	fact refused.$name $?
}

# vm ROLE ARGUMENT...: in the background; APPEND tells the guest who it is
vm() {
	local role=$1
	shift
	APPEND="$plain role=$role"
	TIMEOUT=300 tenon_linux $role --memory 128M --cpus 1 "$@" &
}

# said ROLE FACT: waits until a guest says it, or its VM is gone
said() {
	until grep -q "^@$2=" /tmp/$1.serial 2>/dev/null; do
		! grep -q "^$1.status=" $OUT/facts || return 1
		sleep 0.2
	done
}

mark() { printf '%-512s' "$1" | dd of=$OUT/disk.img bs=512 conv=notrunc status=none; }

mark none
vm pf --iommu container --device $PF,vf-token=$TOKEN
said pf ready
refused create tenon vf create $PF 2
echo Y >/sys/module/vfio_pci/parameters/enable_sriov
tenon vf create $PF 2 >$OUT/create 2>$OUT/create.err
fact vfs "$(cat /sys/bus/pci/devices/$PF/sriov_numvfs)"
vf1=$(basename "$(readlink /sys/bus/pci/devices/$PF/virtfn0)")
vf2=$(basename "$(readlink /sys/bus/pci/devices/$PF/virtfn1)")
fact vf.drivers "$(driver_of $vf1) $(driver_of $vf2)"
mark vfs
said pf online

plan="tenon run --dry-run --kernel $KERNEL --memory 64M --serial none --iommu container"
refused no-token $plan --device $vf1
refused wrong-token $plan --device $vf1,vf-token=$WRONG
vm vf1 --iommu container --device $vf1,vf-token=$TOKEN
vm vf2 --iommu iommufd --device $vf2,vf-token=$TOKEN
said vf1 other
said vf2 other
tenon vf list $PF >$OUT/list
refused destroy tenon vf destroy $PF
mark vms
until grep -q '^vf1.status=' $OUT/facts && grep -q '^vf2.status=' $OUT/facts; do sleep 0.2; done
tenon vf destroy $PF >$OUT/destroy 2>&1
fact vfs.left "$(cat /sys/bus/pci/devices/$PF/sriov_numvfs)"
mark end
wait
true
