# SPDX-License-Identifier: MIT
SOCKET=/tmp/testdev.sock
tenon-testdev --strict $SOCKET >$OUT/testdev.out 2>&1 &
server=$!
for _ in $(seq 100); do
	[ ! -S $SOCKET ] || break
	sleep 0.1
done
phase "tenon check"
$TENON check --json --device $NVME,root-port --device $EDU --device $NIC --device vfio-user:$SOCKET >$OUT/check.json 2>$OUT/check.err
fact check.status $?
kill $server
wait $server
fact testdev.status $?
