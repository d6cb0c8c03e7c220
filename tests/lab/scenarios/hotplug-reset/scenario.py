# SPDX-License-Identifier: MIT
"""A VM that starts without a device gets one, reboots with it and loses it; another VM gives away the one it started with."""
from labkit import *

based_on = "linux-nvme"


def judge(run):
    late, cold = run.expect_guest("late"), run.expect_guest("cold")
    run.expect_equal("what went wrong", run.facts.get("trouble", ""), "")
    wanted = run.sha256(run.original("disk")[:8 << 20])
    for boot in range(2):
        run.expect_equal(f"the SHA-256 read in boot {boot}", late.facts.get(f"boot{boot}.sha256"), wanted)
    run.expect_equal("the SHA-256 read after it came back", late.facts.get("again.sha256"), wanted)
    run.expect_equal("the SHA-256 that the other VM read", cold.facts.get("cold.sha256"), wanted)
    run.expect_healthy_kernel(late)
    run.expect_healthy_kernel(cold)
