# SPDX-License-Identifier: MIT
"""A 2-vCPU guest reads and writes an assigned NVMe, with MSI-X interrupts on both CPUs, and powers off."""
from labkit import *
import struct

MIB = 1 << 20
WRITE_OFFSET, WRITE_BYTES, SEED = 32 * MIB, 16 * MIB, 0x54656E6F6E000000

machine = Machine(
    disks=[Disk("disk", size_mib=64)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0")],
)
programs = ["blockio"]
modules = ["nvme-core", "nvme"]


def judge(run):
    guest = run.expect_guest()
    before = run.original("disk")
    run.expect_equal("the SHA-256 that the guest read", guest.facts.get("sha256"), run.sha256(before))

    pattern = struct.pack(f"<{WRITE_BYTES // 8}Q", *(at ^ SEED for at in range(WRITE_OFFSET, WRITE_OFFSET + WRITE_BYTES, 8)))
    wanted = before[:WRITE_OFFSET] + pattern + before[WRITE_OFFSET + WRITE_BYTES:]
    run.expect(run.disk("disk").read_bytes() == wanted, "the backing file does not hold what the guest wrote")

    first, last = guest.numbers("interrupts.before"), guest.numbers("interrupts.after")
    counts = [b - a for a, b in zip(first, last)]
    # One interrupt may report many completions, so few can be enough.
    run.expect(len(counts) == 2 and min(counts) >= 2, f"MSI-X interrupts on the CPUs: {counts}, at least 2 each expected")
    run.expect_healthy_kernel(guest)
