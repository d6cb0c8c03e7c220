# SPDX-License-Identifier: MIT
TIMEOUT=300 tenon_linux guest --memory 6G --cpus 8 --device $NVME
