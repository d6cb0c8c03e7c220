# SPDX-License-Identifier: MIT
# The counter of boots lives on the assigned disk itself.
echo 0 | dd of=$OUT/disk.img bs=512 seek=122880 conv=notrunc,sync status=none
TIMEOUT=200 tenon_linux guest --device $NVME
