# SPDX-License-Identifier: MIT
"""INTx of edu, inside the kernel and trapped: the same level semantics, under a storm too."""
from labkit import *
import re

ROUNDS = 300
machine = Machine(devices=[Device("edu", "edu,dma_mask=0xffffffffff", at="04.0")])
programs = ["edu"]


def accesses(run, name):
    found = re.search(r"stats:.* memory-reads=(\d+) memory-writes=(\d+)", run.text(f"{name}.err"))
    run.expect(found, f"{name}: tenon printed no statistics")
    return int(found.group(1)) + int(found.group(2))


def judge(run):
    for name in ("kernel", "trapped"):
        guest = run.expect_guest(name)
        for fact, wanted in {"msi": "5", "dma": "2048", "intx": "5", "storm": str(ROUNDS), "again": str(ROUNDS // 3 * 2)}.items():
            run.expect_equal(f"{name}: edu's {fact}", guest.facts.get(fact), wanted)
        run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))
    # Each round raises, looks and acknowledges: three accesses that are VM exits only where the device must be watched.
    more = accesses(run, "trapped") - accesses(run, "kernel")
    run.expect(more >= 3 * ROUNDS, f"trapped INTx cost only {more} more VM exits: was it trapped?")
