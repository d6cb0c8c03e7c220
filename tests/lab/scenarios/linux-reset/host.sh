# SPDX-License-Identifier: MIT
count_no_boots
TIMEOUT=200 tenon_linux guest --device $NVME
