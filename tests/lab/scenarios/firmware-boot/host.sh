# SPDX-License-Identifier: MIT
tenon_linux guest --firmware default --device $NVME
tenon_linux ports --firmware default --append "mode=boot -- $APPEND" --device $NVME,root-port --hotplug-ports 2
tenon_linux pvh --firmware default --kernel $VMLINUX --device $NVME
