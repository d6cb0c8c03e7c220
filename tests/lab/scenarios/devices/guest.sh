# SPDX-License-Identifier: MIT
# For each device of $lab_devices: loads its driver, has it work, and tells by which kind of interrupt it did.

# interrupts_of IRQ...: how many have come in, on all CPUs together.
interrupts_of() {
	local irq sum=0
	for irq; do
		sum=$((sum + $(tr , + </sys/kernel/irq/$irq/per_cpu_count)))
	done
	echo $sum
}

# wrong REASON: the device does not work; the others are tried all the same.
wrong() {
	fact $name.wrong "$*"
	exit 1
}

# below CLASS: the name of what the device's driver makes of this class in its own time.
below() {
	local tries link
	for tries in $(seq 200); do
		for link in /sys/class/$1/*; do
			case $(readlink -f $link) in $device/*) echo ${link##*/} && return ;; esac
		done
		usleep 100000
	done
	return 1
}

disk() {
	local node offset=$((1048576 + lab_turn * 524288))
	node=$(below block) || wrong "no disk after 20 s"
	wait_for /dev/$node
	fact $name.read "$(timeout 60 blockio read /dev/$node 0 1048576 | sha256sum | cut -d' ' -f1)"
	timeout 60 blockio write /dev/$node $offset 524288 $(((lab_turn + 1) << 32)) || wrong "the write failed"
}

network() {
	local link server
	link=$(below net) || wrong "no network interface after 20 s"
	ifconfig $link up || wrong "$link does not come up"
	udhcpc -f -q -n -t 60 -T 1 -i $link -s /tmp/dhcp >/dev/null 2>&1 || wrong "no answer to DHCP"
	server=$(cat /tmp/server.$link)
	ping -A -c 5 -W 5 -s 1400 $server >/tmp/ping.$link || wrong "no answer to ping: $(grep received /tmp/ping.$link)"
	timeout 60 tftp -g -r served.img -l /tmp/served.$link $server
	fact $name.received "$(sha256sum /tmp/served.$link | cut -d' ' -f1)"
}

# try TEST MODULE...: the device of the last module's driver does what TEST says.
try() {
	local test=$1 module irqs
	shift
	for module; do
		modprobe $module || wrong "modprobe $module"
	done
	set -- /sys/module/$(echo $module | tr - _)/drivers/pci:*/0000:*
	[ -e "$1" ] || wrong "its driver, $module, has no device"
	device=$(readlink -f "$1")
	fact $name.driver $module
	$test
	if [ -d $device/msi_irqs ]; then
		irqs=$(ls $device/msi_irqs)
		fact $name.interrupt $(cat $device/msi_irqs/* | head -1)
	else
		irqs=$(cat $device/irq)
		fact $name.interrupt intx
	fi
	fact $name.count $(interrupts_of $irqs)
}

cat >/tmp/dhcp <<'END'
#!/bin/sh
[ "$1" != bound ] || { ifconfig $interface $ip netmask $subnet && echo $serverid >/tmp/server.$interface; }
END
chmod +x /tmp/dhcp
modprobe sd_mod
for name in $(echo $lab_devices | tr , ' '); do
	case $name in
	nvme | ahci) set -- disk $name ;;
	megasas) set -- disk megaraid_sas ;;
	xhci) set -- disk usb-storage xhci-pci ;;
	ehci) set -- disk usb-storage ehci-pci ;;
	sdhci) set -- disk mmc_block sdhci-pci ;;
	e1000e | vmxnet3 | e1000 | tulip) set -- network $name ;;
	rtl8139) set -- network 8139cp ;;
	pcnet) set -- network pcnet32 ;;
	esac
	(
		started=$(cut -d' ' -f1 /proc/uptime)
		try "$@"
		fact $name.seconds $(echo "$(cut -d' ' -f1 /proc/uptime) $started" | awk '{ print $1 - $2 }')
	) &
done
wait
