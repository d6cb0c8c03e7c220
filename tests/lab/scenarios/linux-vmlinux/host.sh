# SPDX-License-Identifier: MIT
tenon_linux guest --kernel $VMLINUX --device $NVME
