# SPDX-License-Identifier: MIT
"""A VMM of one file, built on the installed libtenon alone, boots Linux with an assigned NVMe and ends with the guest's verdict."""
from labkit import *
import struct

based_on = "linux-nvme"
embedders = ["vmm"]
MIB = 1 << 20
VERDICT = "42"


def judge(run):
    guest = run.expect_guest(status=VERDICT)
    run.expect_equal("the SHA-256 that the guest read", guest.facts.get("sha256"), run.sha256(run.original("disk")))
    pattern = struct.pack("<131072Q", *(at ^ 0x54656E6F6E000000 for at in range(32 * MIB, 33 * MIB, 8)))
    run.expect(run.disk("disk").read_bytes()[32 * MIB:33 * MIB] == pattern, "the disk does not hold what the guest wrote")
    first, last = guest.numbers("interrupts.before"), guest.numbers("interrupts.after")
    run.expect(last[0] - first[0] >= 2, f"MSI-X interrupts: {first} before, {last} after; at least 2 more expected")
    run.expect_healthy_kernel(guest)
