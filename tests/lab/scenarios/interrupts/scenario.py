# SPDX-License-Identifier: MIT
"""1000 moves of an NVMe's interrupt under load lose none; enabling 8, 16 or 64 vectors takes the same few ioctls."""
from labkit import *

MOVES = 1000
machine = Machine(
    disks=[Disk("disk", size_mib=64), Disk("wide", size_mib=8)],
    # With one vector it serves all queues, and the guest's kernel lets it be moved; those of several queues it manages itself.
    devices=[Device("moved", "nvme,serial=moved,drive=disk,msix_qsize=1", at="04.0"),
             Device("wide", "nvme,serial=wide,drive=wide", at="05.0")],
)
programs = ["blockio", "vectors"]
more_modules = ["nvme"]
timeout = 420


def judge(run):
    guest = run.expect_guest("affinity")
    run.expect_equal("the number of moves", guest.facts.get("moves"), str(MOVES))
    run.expect_equal("the SHA-256 that the guest read", guest.facts.get("sha256"), run.sha256(run.original("disk")))
    run.expect("load" in guest.facts, "the load did not run to its end: an I/O is lost")
    run.expect(int(guest.facts["load"]) >= 2, f"the load went through the disk {guest.facts['load']} times only")
    counts = guest.numbers("interrupts")
    run.expect(len(counts) == 2 and min(counts) >= MOVES // 4,
               f"interrupts on the CPUs: {counts}, so the moves had no effect")
    run.expect_healthy_kernel(guest)  # a lost interrupt is a timeout there

    calls = {}
    for vectors in (8, 16, 64):
        name = f"vectors{vectors}"
        guest = run.expect_guest(name)
        run.expect_equal(f"{name}: the vectors enabled", guest.facts.get("vectors"), str(vectors))
        calls[vectors] = [int(run.facts[f"{name}.{call}"]) for call in ("set_irqs", "irqfd", "routing")]
    run.expect(calls[8][0] > 0, "no VFIO_DEVICE_SET_IRQS was counted")
    run.expect(calls[8] == calls[16] == calls[64], f"SET_IRQS, IRQFD and SET_GSI_ROUTING grow with the vectors: {calls}")
    run.expect(sum(calls[64]) <= 32, f"too many calls in the life of a VM with 64 vectors: {calls[64]}")
