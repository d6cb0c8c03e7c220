# SPDX-License-Identifier: MIT
"""The data path leaves KVM for nothing: 64 MiB of NVMe reads with their interrupts cost under 1 exit per 100."""
from labkit import *
import re

based_on = "linux-nvme"
READS = 16384


def exits(line):
    return {name: int(number) for name, number in re.findall(r"([\w-]+)=(\d+)", line)}


def judge(run):
    guest = run.expect_guest()
    before, after = (exits(run.facts.get(f"stats.{when}", "")) for when in ("before", "after"))
    run.expect("total" in before and "total" in after, "tenon printed no line of exit counts on SIGUSR1")
    reads = guest.numbers("reads.after")[0] - guest.numbers("reads.before")[0]
    run.expect(reads >= READS, f"the guest did {reads} reads, not {READS}")
    interrupts = sum(guest.numbers("interrupts.after")) - sum(guest.numbers("interrupts.before"))
    run.expect(interrupts >= reads // 2, f"{interrupts} interrupts for {reads} reads: they were not taken by interrupt")
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    run.expect(grown.get("total", 0) * 100 < reads, f"{reads} reads cost {grown} exits; less than {reads // 100} allowed")
