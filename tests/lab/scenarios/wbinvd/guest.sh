# SPDX-License-Identifier: MIT
wait_for /dev/nvme0n1
while [ -e /dev/nvme0n1 ]; do usleep 200000; done
