# SPDX-License-Identifier: MIT
SOCKET=/tmp/testdev.sock
tenon-testdev --strict $SOCKET >$OUT/testdev.out 2>&1 &
server=$!
for _ in $(seq 100); do
	[ ! -S $SOCKET ] || break
	sleep 0.1
done
APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
tenon_linux guest --device $NVME --device vfio-user:$SOCKET
kill $server
wait $server
fact testdev.status $?
