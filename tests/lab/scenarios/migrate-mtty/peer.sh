# SPDX-License-Identifier: MIT
# The second host: VMs 2 and 4.
. $OUT/host/move.sh

make_mtty
travel 2 4 --device $MTTY1,dirty-tracking=assume-all
