# SPDX-License-Identifier: MIT
# The first host: VMs 1, 3, 5; peer.sh is the other side.
. $OUT/host/move.sh

make_mtty
boot --device $MTTY1,dirty-tracking=assume-all
travel 1 4 --device $MTTY1,dirty-tracking=assume-all
