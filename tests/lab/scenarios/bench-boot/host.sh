# SPDX-License-Identifier: MIT
# Everything that is read at start lies in memory: the files in /tmp, the programs in the page cache after a first round that
# does not count. The VMMs take turns, so that whatever else the machine does hits all alike.
# A line of $OUT/measured: VMM ROUND SECONDS PRIVATE_KIB.
ROUNDS=5
cp $KERNEL /tmp/bzImage
cp $INITRD /tmp/initrd
cp $TENON /tmp/tenon

tenon=(/tmp/tenon run --kernel /tmp/bzImage --initrd /tmp/initrd --append "$APPEND" --memory 256M --cpus 1 --quiet
	--serial stdio --device $NVME)
qemu=(-cpu host -smp 1 -m 256M -nodefaults -no-user-config -display none -serial stdio -device vfio-pci,host=$NVME
	-kernel /tmp/bzImage -initrd /tmp/initrd -append "$APPEND")
microvm=(qemu-system-x86_64 -M microvm,accel=kvm,pcie=on,acpi=on,usb=off,rtc=off,pit=off,pic=off "${qemu[@]}")
q35=(qemu-system-x86_64 -M q35,accel=kvm "${qemu[@]}")
kvmtool=(lkvm run --kernel /tmp/bzImage --initrd /tmp/initrd --params "$APPEND" --mem 256 --cpus 1 --console serial
	--network mode=none --vfio-pci $NVME)

vmms="tenon microvm q35"
type lkvm >/dev/null 2>&1 && vmms="$vmms kvmtool"
for round in $(seq 0 $ROUNDS); do
	for vmm in $vmms; do
		phase "round $round of $ROUNDS, $vmm"
		say "  round $round of $ROUNDS: $vmm"
		declare -n command=$vmm
		measured=$(boot_time @init @nvme=1 120 "${command[@]}" </dev/null)
		[ $round = 0 ] || echo "$vmm $round $measured" >>$OUT/measured
	done
done
true
