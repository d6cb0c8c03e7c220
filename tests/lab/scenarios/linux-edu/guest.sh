# SPDX-License-Identifier: MIT
give_to_vfio device 0x11e8
edu $group $bdf || fail
