# SPDX-License-Identifier: MIT
. $OUT/host/move.sh

make_mtty
boot --device $MTTY1,dirty-tracking=assume-all

phase "the guest is saved"
fact saved.beat "$(sed -n 's/^@beat=\([0-9]*\).*/\1/p' /tmp/out.1 | tail -n 1)"
move 1 file:/tmp/snapshot
alive 1
dismiss 1

for number in 2 3; do
	incoming $number file:/tmp/snapshot --device $MTTY1,dirty-tracking=assume-all
	alive $number
	dismiss $number
done
