# SPDX-License-Identifier: MIT
"""linux-nvme through the firmware, which numbers buses, places BARs and starts Linux: a bzImage, with root ports, and by PVH."""
from labkit import *

based_on = "linux-nvme"


def judge(run):
    for name in ("guest", "ports", "pvh"):
        guest = run.expect_guest(name)
        run.expect("tenon firmware" in guest.text, f"{name} was not started by the firmware")
        first, last = guest.numbers("interrupts.before"), guest.numbers("interrupts.after")
        counts = [b - a for a, b in zip(first, last)]
        run.expect(len(counts) == 2 and min(counts) >= 2, f"MSI-X interrupts on {name}'s CPUs: {counts}, at least 2 each expected")
        run.expect_healthy_kernel(guest)
    # The guests write the same after reading; the first one read what was there at the start.
    run.expect_equal("the SHA-256 that the first guest read", run.guest().facts.get("sha256"), run.sha256(run.original("disk")))
    rest = {run.guest(name).facts.get("sha256") for name in ("ports", "pvh")}
    run.expect_equal("the SHA-256 that the others read", rest, {run.sha256(run.disk("disk"))})
