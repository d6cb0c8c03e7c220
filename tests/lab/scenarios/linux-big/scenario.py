# SPDX-License-Identifier: MIT
"""8 vCPUs and 6 GiB: the NVMe's DMA reaches memory on both sides of the PCI hole."""
from labkit import *

machine = Machine(
    memory_mib=8192,
    disks=[Disk("disk", size_mib=64)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0")],
)
programs = ["blockio"]
modules = ["nvme-core", "nvme"]
timeout = 420


def judge(run):
    guest = run.expect_guest()
    run.expect_equal("the number of CPUs", guest.facts.get("cpus"), "8")
    memory = int(guest.facts.get("memory_kib", 0)) >> 20
    run.expect(memory == 5, f"the guest has {memory} GiB and a part, not 5 and a part of its 6")
    run.expect_equal("the SHA-256 read into memory above 4 GiB", guest.facts.get("sha256"), run.sha256(run.original("disk")))
    lowest = int(guest.facts.get("lowest", "0"), 0)
    run.expect(lowest >= 4 << 30, f"the buffer began at {lowest:#x}, not above 4 GiB")

    # Every 128 MiB of the guest's physical memory took a page of DMA: 24 such areas below the hole, 24 above 4 GiB.
    areas = [int(word, 16) for word in guest.facts.get("areas", "").split()]
    low, high = [a for a in areas if a < 4 << 30], [a for a in areas if a >= 4 << 30]
    run.expect(len(low) >= 20 and len(high) >= 22, f"DMA reached {len(low)} areas below the hole and {len(high)} above")
    run.expect_healthy_kernel(guest)
