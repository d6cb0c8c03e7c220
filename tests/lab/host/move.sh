# SPDX-License-Identifier: MIT
# Functions for host.sh of scenarios whose guest moves from VM to VM. Each VM has a number: VM 1 boots the guest, those after it take
# it over. The guest's serial port is each VM's standard input and output; vmNUMBER.serial is what it said there.

declare -A VM     # the process of each VM
PAIR=/run/lab/out # what both of a pair of hosts see

# until_true SECONDS COMMAND...: whether the command succeeds within that time.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.2
	done
}

# give_up REASON: nothing that follows would mean anything.
give_up() {
	local number
	fact late "$*"
	kill ${VM[*]}
	for number in ${!VM[*]}; do
		ended $number # a guest that crashed says so by its VM's status
	done
	exit 1
}

# vm NUMBER ARGUMENT...: starts VM NUMBER in the background.
vm() {
	local number=$1
	shift
	mkfifo /tmp/in.$number
	phase "VM $number starts"
	timeout -k 5 "${TIMEOUT:-700}" "$TENON" run --serial stdio --control /tmp/vm.$number "$@" <>/tmp/in.$number >/tmp/out.$number 2>$OUT/vm$number.err &
	VM[$number]=$!
}

# boot ARGUMENT...: the guest, in VM 1; waits until its load runs.
boot() {
	vm 1 --kernel $KERNEL --initrd $INITRD --append "$APPEND" --memory 128M --cpus 2 "$@"
	alive 1
}

# incoming NUMBER ADDRESS ARGUMENT...: VM NUMBER, which waits for the guest; it has the shape that `boot` gave the first.
incoming() {
	local number=$1 address=$2
	shift 2
	vm $number --kernel $KERNEL --memory 128M --cpus 2 --incoming "$address" "$@"
	until_true 60 [ -S /tmp/vm.$number ] || give_up "VM $number, which is to wait for the guest"
}

# alive NUMBER: waits until the guest's load has been heard from VM NUMBER, once more.
alive() {
	local before
	before=$(beats $1)
	until_true 90 more_beats $1 $((before + 1)) || give_up "a sign of life from VM $1"
}
beats() { grep -c '^@beat=' /tmp/out.$1; }
more_beats() { [ "$(beats $1)" -gt $2 ]; }

# move NUMBER ADDRESS [ARGUMENT...]: sends the guest of VM NUMBER there. It may stand for a second, since what sends its memory is
# emulated, too.
move() {
	local number=$1 address=$2
	shift 2
	phase "VM $number is moved to $address"
	timeout 120 tenon migrate --downtime-limit 1s "$@" --json /tmp/vm.$number "$address" >$OUT/move$number.json 2>$OUT/move$number.err ||
		give_up "move $number, which ended with status $?: $(head -n 1 $OUT/move$number.err)"
}

# leave NUMBER ADDRESS [ARGUMENT...]: the same, and VM NUMBER ends with that.
leave() {
	move "$@"
	ended $1
}

# travel FIRST MOVES [ARGUMENT...]: one side of a pair of hosts, between which the guest goes to and fro so often: the VMs FIRST,
# FIRST + 2, ..., of which the last is VM MOVES + 1. Files in the run's folder, which both hosts see, say when a VM waits for the guest.
travel() {
	local number=$1 last=$(($2 + 1)) other=10.0.0.$((3 - lab_pair))
	shift 2
	for (( ; number <= last; number += 2)); do
		if [ $number -gt 1 ]; then
			incoming $number tcp:0.0.0.0:4444 --migration-insecure "$@"
			: >$PAIR/waits.$number
			until_true 150 [ -e $PAIR/gone.$((number - 1)) ] || give_up "the guest, in VM $number"
			alive $number
		fi
		if [ $number -eq $last ]; then
			dismiss $number
			continue
		fi
		until_true 150 [ -e $PAIR/waits.$((number + 1)) ] || give_up "VM $((number + 1)) of the other host"
		leave $number tcp:$other:4444 --insecure
		: >$PAIR/gone.$number
	done
}

# ended NUMBER: waits for the end of VM NUMBER.
ended() {
	local status
	wait "${VM[$1]}"
	status=$?
	unset "VM[$1]"
	cp /tmp/out.$1 $OUT/vm$1.serial
	fact vm$1.status $status
	return $status
}

# dismiss NUMBER: the guest in VM NUMBER is told to come to its end.
dismiss() {
	phase "the guest in VM $1 ends"
	echo stop >/tmp/in.$1
	ended $1
}

# make_mtty: two mediated devices of the kernel's sample driver, which migrate: MTTY1 and MTTY2.
make_mtty() {
	local number
	busybox insmod /run/lab/kernel/modules/mdev.ko
	busybox insmod /run/lab/kernel/modules/mtty.ko
	for number in 1 2; do
		declare -g MTTY$number=7e4e0000-0000-4000-8000-00000000000$number
		echo 7e4e0000-0000-4000-8000-00000000000$number >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create ||
			give_up "mtty $number"
	done
}
