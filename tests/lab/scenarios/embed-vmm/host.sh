# SPDX-License-Identifier: MIT
# The VMM prints the guest's serial port; into memory first, as lib.sh does.
started=$EPOCHREALTIME
timeout -k 5 150 vmm $KERNEL $INITRD $NVME "${LAB_GUEST_LOG:-quiet}" >/tmp/guest.serial 2>$OUT/guest.err
fact guest.status $?
fact guest.seconds "$(seconds_since $started)"
cp /tmp/guest.serial $OUT
