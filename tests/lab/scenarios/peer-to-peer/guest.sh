# SPDX-License-Identifier: MIT
# QEMU's docs/specs/edu.txt: DMA source 0x80, target 0x88, bytes 0x90, command 0x98; the device's own buffer is at 0x40000.
of_id() { dirname "$(grep -l "$1" /sys/bus/pci/devices/*/device)"; }
resource() { sed -n "$(($2 + 1))s/ .*//p" $1/resource; }
edu=$(of_id 0x11e8)
memory=$(of_id 0x1110)
for device in $edu $memory; do
	echo 1 >$device/enable
	printf '\006' | dd of=$device/config bs=1 seek=4 conv=notrunc 2>/dev/null # memory decoding, bus mastering
done
registers=$(resource $edu 0)
there=$(resource $memory 2)
[ "$registers" ] && [ "$there" ] || fail "a device or its BAR is missing"

copy() { # FROM TO COMMAND
	devmem $((registers + 0x80)) 64 $1
	devmem $((registers + 0x88)) 64 $2
	devmem $((registers + 0x90)) 64 4
	devmem $((registers + 0x98)) 64 $3
	local tries=0
	while [ $(($(devmem $((registers + 0x98)) 64) & 1)) = 1 ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || fail "the DMA does not end"
		usleep 50000
	done
}

devmem $there 32 0x54656E6F
copy $((there)) $((0x40000)) 1
copy $((0x40000)) $((there + 0x8000)) 3
fact copied "$(devmem $((there + 0x8000)) 32)"
