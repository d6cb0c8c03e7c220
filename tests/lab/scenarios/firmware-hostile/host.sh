# SPDX-License-Identifier: MIT
tenon_run attack --firmware default --memory 64M --device $NVME,root-port --device $EDU --device $NIC --hotplug-ports 2 \
	--append "mode=hostile seconds=20 seed=20261121"
# The NVMe works as before: it was reset. Nothing resets the other two.
$TENON check --device $NVME >$OUT/check.out 2>$OUT/check.err
fact check.status $?
