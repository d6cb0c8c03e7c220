# SPDX-License-Identifier: MIT
# The kernel says when a program first reserves addresses for guest memory, and when each of its ioctls that map begins and
# ends: the same events for all programs, unchanged. No guest runs: tenon has --dry-run, QEMU -S, so that population has the
# CPUs to itself in both. The programs take turns; a first turn reads them into memory.
# A line of $OUT/measured: KIND PROGRAM ROUND SECONDS SECONDS_MAPPING IOCTLS MIB; from reserving until all is mapped, and of
# that from the first mapping ioctl on.
ROUNDS=3
MIB=4096
TRACE=/sys/kernel/tracing
THP=/sys/kernel/mm/transparent_hugepage
POOL=/proc/sys/vm/nr_hugepages

set_up_events() {
	mount -t tracefs tracefs $TRACE
	cat >$TRACE/kprobe_events <<-'END'
		p:lab/reserve ksys_mmap_pgoff bytes=$arg2
		p:lab/ioas_map iommufd_ioas_map bytes=+24(+24($arg1)):u64
		r:lab/ioas_mapped iommufd_ioas_map
		p:lab/dma_map vfio_iommu_type1_ioctl command=$arg2:x32 bytes=+u24($arg3):u64
		r:lab/dma_mapped vfio_iommu_type1_ioctl command=$arg2:x32
	END
	echo "bytes >= $((MIB << 20))" >$TRACE/events/lab/reserve/filter
	echo 'command == 0x3b71' >$TRACE/events/lab/dma_map/filter # VFIO_IOMMU_MAP_DMA
	echo 'command == 0x3b71' >$TRACE/events/lab/dma_mapped/filter
	echo 1 >$TRACE/events/lab/enable
}

# measure KIND PROGRAM ROUND COMMAND...; round 0 does not count. "quit" is for QEMU's monitor: it is read once all is set up.
measure() {
	local kind=$1 program=$2 round=$3
	shift 3
	phase "round $round of $ROUNDS, $kind, $program"
	echo >$TRACE/trace
	if ! echo quit | "$@" >/tmp/out 2>&1; then
		echo "$program failed with $kind memory:"
		cat /tmp/out
		return
	fi
	cp $TRACE/trace $OUT/trace.$kind.$program
	[ $round = 0 ] || awk -v head="$kind $program $round" '
		{ for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+\.[0-9]+:$/) { time = $i + 0; event = $(i + 1) } }
		event == "reserve:" && !start { start = time }
		event == "ioas_map:" || event == "dma_map:" {
			if (!ioctls++) first = time
			sub(/.*bytes=/, "")
			bytes += $0
		}
		event == "ioas_mapped:" || event == "dma_mapped:" { last = time }
		{ event = "" }
		END { printf "%s %.4f %.4f %d %d\n", head, last - start, last - first, ioctls, bytes / 1048576 }
	' $TRACE/trace >>$OUT/measured
}

# qemu KIND PROGRAM ROUND MEMORY: with that memory backend.
qemu() {
	measure $1 $2 $3 qemu-system-x86_64 -S -monitor stdio -M microvm,accel=kvm,pcie=on,acpi=on,usb=off,memory-backend=ram \
		-cpu host -smp 2 -m ${MIB}M -nodefaults -no-user-config -display none -object $4,id=ram,size=${MIB}M \
		-device vfio-pci,host=$NVME
}

# tenon KIND PROGRAM ROUND OPTIONS of --memory
tenon() {
	measure $1 $2 $3 /tmp/tenon run --dry-run --quiet --kernel /tmp/bzImage --memory ${MIB}M$4 --cpus 2 --device $NVME
}

bare() { measure $1 bare $2 /tmp/bare_map $NODE $MIB $1; }

round_2m() {
	local file=memory-backend-memfd,share=on,hugetlb=on,hugetlbsize=2M
	echo $((MIB / 2)) >$POOL
	tenon 2m tenon $1 ,hugepages=2M
	qemu 2m qemu $1 $file
	qemu 2m qemu-prealloc $1 $file,prealloc=on
	bare 2m $1
	echo 0 >$POOL
}

# As most hosts are: private memory gets transparent huge pages, shared memory does unless it asks.
round_thp() {
	echo always >$THP/enabled
	echo never >$THP/shmem_enabled
	tenon thp tenon $1 ""
	tenon thp tenon-shared $1 ,shared
	qemu thp qemu-private $1 memory-backend-ram
	qemu thp qemu-private-prealloc $1 memory-backend-ram,prealloc=on
	bare thp $1
}

# "deny" is the only word that keeps shared memory from huge pages for certain.
round_4k() {
	echo never >$THP/enabled
	echo deny >$THP/shmem_enabled
	tenon 4k tenon $1 ""
	tenon 4k tenon-shared $1 ,shared
	qemu 4k qemu-private $1 memory-backend-ram
	qemu 4k qemu-private-prealloc $1 memory-backend-ram,prealloc=on
	qemu 4k qemu $1 memory-backend-memfd,share=on
	bare 4k $1
}

set_up_events
cp $KERNEL /tmp/bzImage
cp $TENON $OUT/bin/bare_map /tmp
NODE=$(vfio_node $NVME)
round_2m 0
for round in $(seq 1 $ROUNDS); do
	say "  round $round of $ROUNDS"
	round_2m $round
	round_thp $round
	round_4k $round
done
true
