# SPDX-License-Identifier: MIT
ifconfig lo 127.0.0.1
mtty=$(grep -l 0x4348 /sys/bus/pci/devices/*/vendor)
[ "$mtty" ] || fail "the guest sees no mtty"
mtty=${mtty%/vendor}
echo 1 >$mtty/enable
read -r port last flags <$mtty/resource
uart_loop $port /tmp/stop &
uart=$!
endure 16 500 /tmp/stop &
endure=$!
read -r word </dev/console
touch /tmp/stop
wait $endure || fail
wait $uart || fail
