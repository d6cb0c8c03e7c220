# SPDX-License-Identifier: MIT
# The first host: VMs 1, 3, 5, ...; peer.sh is the other side.
. $OUT/host/move.sh

boot
travel 1 10
