# SPDX-License-Identifier: MIT
# Reads its disk and stays until the host writes there that it may go.
wait_for /dev/nvme0n1
fact sha256 "$(blockio read /dev/nvme0n1 4194304 4194304 | sha256sum | cut -d' ' -f1)"
fact ready 1
until [ "$(blockio read /dev/nvme0n1 0 512 | head -c 2)" = go ]; do usleep 200000; done
