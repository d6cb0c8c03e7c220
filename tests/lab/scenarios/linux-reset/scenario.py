# SPDX-License-Identifier: MIT
"""The guest reboots three times in place and powers off in its fourth boot; the assigned NVMe works in each."""
from labkit import *

BOOTS = 4
COUNTER = 60 << 20
based_on = "linux-nvme"


def judge(run):
    guest = run.expect_guest()
    before = run.original("disk")
    wanted = run.sha256(before[:8 << 20])
    for boot in range(BOOTS):
        run.expect_equal(f"the SHA-256 read in boot {boot}", guest.facts.get(f"boot{boot}.sha256"), wanted)
    run.expect(f"boot{BOOTS}.sha256" not in guest.facts, f"the guest booted more than {BOOTS} times")
    counter = run.disk("disk").read_bytes()[COUNTER:COUNTER + 512].rstrip(b"\0\n")
    run.expect_equal("the counter on the disk", counter, str(BOOTS).encode())
    run.expect_healthy_kernel(guest)
