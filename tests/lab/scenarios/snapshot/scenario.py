# SPDX-License-Identifier: MIT
"""A guest with mtty is saved to a file, runs on, and is restored from that file twice: each goes on from the same moment."""
from labkit import *
from labkit.moves import beats, expect_untouched, uart_counts

RESTORED = (2, 3)

machine = Machine()
programs = ["endure", "uart_loop"]
timeout = 720


def judge(run):
    run.expect("late" not in run.facts, f"late: {run.facts.get('late')}")
    ran_on = run.expect_guest("vm1")
    expect_untouched(run, ran_on)
    run.expect_equal("the beats of the guest that was saved", beats(ran_on), list(range(1, len(beats(ran_on)) + 1)))
    saved_at = int(run.facts.get("saved.beat", 0))

    first = set()
    for number in RESTORED:
        guest = run.expect_guest(f"vm{number}")
        expect_untouched(run, guest)
        heard = beats(guest)
        run.expect_equal(f"the beats of VM {number}", heard, list(range(heard[0], heard[0] + len(heard))))
        first.add(heard[0])
        run.expect(uart_counts(guest)[0] > 0, f"mtty in VM {number} began anew")
    run.expect(len(first) == 1, f"what was restored from one file went on from different moments: {first}")
    run.expect(saved_at < first.pop() <= len(beats(ran_on)), f"the guest was not restored to where it was saved, at beat {saved_at}")
