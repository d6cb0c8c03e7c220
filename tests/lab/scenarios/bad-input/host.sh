# SPDX-License-Identifier: MIT
# The table of wrong uses. `bad NAME PATTERN ARGUMENT...` runs `tenon run` with the defaults of a good call and these
# arguments; a later option replaces an earlier one, as everywhere on the command line. PATTERN is what the line must say.

mkdir -p $OUT/cases /tmp/bad
cp $TENON $KERNEL /tmp/bad
cd /tmp/bad
NOBODY="setpriv --reuid=65534 --regid=65534 --clear-groups"
as=

holder=none # the process that has a device on purpose, in the case device-in-use

leftovers() {
	ps -eo pid=,comm= | awk '$2 == "tenon"'
	ls -l /proc/[0-9]*/fd/* 2>/dev/null | grep -E '/dev/vfio/dev|/dev/iommu|anon_inode:kvm' | grep -v "/proc/$holder/"
}

# wrong NAME PATTERN COMMAND...
wrong() {
	local case=$OUT/cases/$1
	echo "$2" >$case.wanted
	phase "case $1"
	shift 2
	timeout -k 5 30 $as "$@" </dev/null >$case.out 2>$case.err
	echo $? >$case.status
	leftovers >$case.left
}

bad() {
	local name=$1 pattern=$2
	shift 2
	wrong "$name" "$pattern" /tmp/bad/tenon run --memory 256M --cpus 1 --serial none --kernel /tmp/bad/bzImage "$@"
}

# The command line
wrong subcommand-unknown 'fly' /tmp/bad/tenon fly
wrong kernel-not-given '--kernel' /tmp/bad/tenon run --memory 256M --cpus 1
bad option-unknown 'frobnicate' --frobnicate
bad option-without-value 'append' --append
bad argument-stray 'stray' stray
bad serial-unknown 'pigeon' --serial pigeon
bad serial-unwritable '/nonexistent.*No such file' --serial file:/nonexistent/log
touch socket-taken
bad serial-socket-taken 'socket-taken' --serial socket:/tmp/bad/socket-taken
bad append-too-long 'command line' --append "$(head -c 70000 /dev/zero | tr '\0' x)"

# Kernel and initrd
bad kernel-missing '/tmp/bad/none.*No such file' --kernel /tmp/bad/none
bad kernel-directory 'directory' --kernel /tmp
: >empty
bad kernel-empty 'empty' --kernel /tmp/bad/empty
seq 4000 >text
bad kernel-text 'neither|not a' --kernel /tmp/bad/text
head -c 1000000 bzImage >truncated
bad kernel-truncated 'truncated|short|ends' --kernel /tmp/bad/truncated
head -c 520 bzImage >stump
bad kernel-header-truncated 'truncated|short|ends|neither|boot sector' --kernel /tmp/bad/stump
gzip -1 <bzImage >zipped
bad kernel-gzip 'gzip|compressed' --kernel /tmp/bad/zipped
cp $OUT/bin/vfio_open elf
bad kernel-elf-without-pvh 'PVH' --kernel /tmp/bad/elf
head -c 100000 $VMLINUX >half-elf
bad kernel-elf-truncated 'truncated|short|ends|outside|beyond' --kernel /tmp/bad/half-elf
bad initrd-missing '/tmp/bad/none.*No such file' --initrd /tmp/bad/none
bad initrd-directory 'directory' --initrd /tmp
truncate -s 300M big-initrd
bad initrd-too-big 'memory.*big-initrd' --initrd /tmp/bad/big-initrd

# Memory and CPUs
bad memory-below-kernel 'memory' --memory 16M
bad memory-zero 'memory|0' --memory 0
bad memory-garbage 'lots' --memory lots
bad memory-suffix '512X' --memory 512X
bad memory-not-multiple 'multiple' --memory 300000001
bad memory-overflow '99999999999T' --memory 99999999999T
bad memory-option-unknown 'fast' --memory 256M,fast
bad hugepages-size 'hugepages|3M' --memory 256M,hugepages=3M
bad hugepages-without-pool 'huge' --memory 256M,hugepages=2M --device $NVME
bad cpus-zero '1.*64' --cpus 0
bad cpus-too-many '1.*64' --cpus 65
bad cpus-garbage 'two' --cpus two

# Devices
bad device-unknown '0000:7f:00.0' --device 0000:7f:00.0
bad device-malformed 'nvme0' --device nvme0
bad device-empty 'device' --device ''
bad device-option-unknown 'colour' --device $NVME,colour=red
bad device-twice "$NVME.*(twice|already|once|more than)" --device $NVME --device $NVME
bad device-without-driver "$IDLE.*tenon bind $IDLE" --device $IDLE
bad device-of-other-driver "$STUB.*pci-stub.*vfio-pci" --device $STUB
bad device-token-useless "$NVME.*token" --device $NVME,vf-token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3
bad device-not-vfio '/dev/null' --device /dev/null
bad device-path-missing '/dev/vfio/devices/vfio99' --device /dev/vfio/devices/vfio99
vfio_open "$(vfio_node $NVME)" $NVME 60 >/tmp/bad/holder &
holder=$!
until [ -s /tmp/bad/holder ]; do sleep 0.1; done
bad device-in-use "$NVME.*(use|busy)" --device $NVME
bad group-in-use "$NVME.*in use" --device $NVME --iommu container
kill $holder
wait $holder
busybox insmod /run/lab/kernel/modules/e1000e.ko
bad group-blocked "$NIC.*e1000e" --device $SHARED
bind_driver $NIC ""

# Permissions and limits of a user who is not root
chmod 666 /dev/kvm /dev/iommu
chmod 755 /tmp/bad /tmp/bad/*
as=$NOBODY
node=$(vfio_node $NVME)
bad permission-device "$node.*Permission denied" --device $NVME
chmod 666 $node
chmod 600 /dev/iommu
bad permission-iommu '/dev/iommu.*Permission denied' --device $NVME
chmod 666 /dev/iommu
chmod 600 /dev/kvm
bad permission-kvm '/dev/kvm.*Permission denied'
chmod 666 /dev/kvm
chmod 600 /tmp/bad/text
bad permission-kernel '/tmp/bad/text.*Permission denied' --kernel /tmp/bad/text
as="prlimit --memlock=65536:65536 $NOBODY"
bad memlock-too-low 'memlock|locked memory' --device $NVME
as=

# What the host lacks
mv /dev/iommu /dev/iommu.away
bad iommu-missing '/dev/iommu' --device $NVME --iommu iommufd
mv /dev/vfio/vfio /dev/vfio.away
bad interfaces-missing '/dev/iommu.*/dev/vfio/vfio' --device $NVME
mv /dev/vfio.away /dev/vfio/vfio
mv /dev/iommu.away /dev/iommu
mv /dev/kvm /dev/kvm.away
bad kvm-missing '/dev/kvm'
mv /dev/kvm.away /dev/kvm
true
