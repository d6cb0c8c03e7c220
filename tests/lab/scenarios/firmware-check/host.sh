# SPDX-License-Identifier: MIT
phase "tenon check"
$TENON check --json --device $NVME --device $EDU,root-port --device $NIC >$OUT/check.json 2>$OUT/check.err
fact check.status $?
