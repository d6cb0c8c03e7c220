# SPDX-License-Identifier: MIT
# The second host: VMs 2, 4, 6, ...
. $OUT/host/move.sh

travel 2 10
