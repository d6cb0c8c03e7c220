# SPDX-License-Identifier: MIT
"""Judges guests that moved: what tests/lab/guest/endure.c and uart_loop.c say, and in which VM (host/move.sh)."""
import re

from .judge import Guest

# A guest may be moved in the middle of a timer's interrupt, which then takes as long as the move, at most what host/move.sh allows.
ALLOWED = (r"hrtimer: interrupt took \d{1,9} ns",)


def _numbers(text: str, fact: str) -> list:
    return [int(number) for number in re.findall(rf"^@{fact}=(\d+)\r?$", text, re.MULTILINE)]


def beats(guest) -> list:
    """The beats of the load, in the order in which they came."""
    return _numbers(guest.text, "beat")


def uart_counts(guest) -> list:
    return _numbers(guest.text, "uart")


def expect_untouched(run, guest):
    """The load found nothing wrong, all of it ran, on both CPUs, and the kernel has nothing to say."""
    for what in ("passes", "wakes", "echoes"):
        counts = guest.numbers(what)
        run.expect(counts and min(counts) > 0, f"{guest.name}: {what} of the load: {counts}")
    run.expect_healthy_kernel(guest, ALLOWED)
    if "uart_loop" not in run.scenario.programs:
        return
    sent, back = guest.numbers("uart.all") or (0, 0)
    run.expect(sent == back > 0, f"{guest.name}: of {sent} bytes through mtty, {back} came back")
    counts = uart_counts(guest)
    run.expect(counts and counts == sorted(counts), f"{guest.name}: mtty went back: {counts}")


def expect_moves(run, moves: int):
    """The guest went on in another VM so many times, each of which ended well, and noticed nothing. Of a pair of hosts, the second had
    every other VM."""
    where = {vm: run.peer if run.peer and vm % 2 == 0 else run for vm in range(1, moves + 2)}
    for host in where.values():
        run.expect("late" not in host.facts, f"late: {host.facts.get('late')}")
    for vm, host in where.items():
        host.expect_fact(f"vm{vm}.status", "0")
        text = host.text(f"vm{vm}.serial")
        run.expect("@beat=" in text, f"the guest did not run in VM {vm}")
        run.expect("@uart=" in text or "uart_loop" not in run.scenario.programs, f"mtty was not used in VM {vm}")
    last, name = where[moves + 1], f"vm{moves + 1}"
    last.guests[name] = Guest(name, "".join(host.text(f"vm{vm}.serial") for vm, host in where.items()))
    guest = last.expect_guest(name)
    expect_untouched(run, guest)
    heard = beats(guest)
    run.expect_equal("the guest's beats", heard, list(range(1, len(heard) + 1)))
