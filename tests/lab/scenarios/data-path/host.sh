# SPDX-License-Identifier: MIT
# Guest and host hand over to each other by a word in the disk's last MiB, which costs the guest no exit: the guest writes
# "ready" and waits for "go", and the same once more after its reads. At both times the guest rests and tenon is asked.
WORD_AT=63

word() { dd if=$OUT/disk.img bs=1M skip=$WORD_AT count=1 status=none | head -c 16 | tr -d '\0'; }

# exits NAME WORD: waits for the guest's word, asks tenon for its counters and lets the guest go on.
exits() {
	local tries=0 lines
	until [ "$(word)" = "$2" ]; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
		sleep 0.2
	done
	lines=$(grep -c '^stats:' $OUT/guest.err)
	pkill -USR1 -x tenon
	for tries in $(seq 50); do
		[ "$(grep -c '^stats:' $OUT/guest.err)" -gt "$lines" ] && break
		sleep 0.1
	done
	fact "stats.$1" "$(grep '^stats:' $OUT/guest.err | tail -1)"
	printf 'go-%s' "$2" | dd of=$OUT/disk.img bs=1M seek=$WORD_AT conv=notrunc status=none
}

dd if=/dev/zero of=$OUT/disk.img bs=1M seek=$WORD_AT count=1 conv=notrunc status=none
tenon_linux guest --stats --device $NVME &
exits before ready && exits after done
wait
true
