# SPDX-License-Identifier: MIT
"""An NVMe by iommufd and a device of another process by vfio-user, in one VM and at the same time: both do DMA."""
from labkit import *
import struct

MIB = 1 << 20
READ_BYTES = 32 * MIB
WRITE_OFFSET, WRITE_BYTES, SEED = 32 * MIB, 16 * MIB, 0x54656E6F6E000000
CARRIED_TO, CARRIED_BYTES = 48 * MIB, 2 * MIB

machine = Machine(
    disks=[Disk("disk", size_mib=64)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0")],
)
programs = ["blockio", "testdev"]
modules = ["nvme-core", "nvme"]


def judge(run):
    guest = run.expect_guest()
    before = run.original("disk")
    run.expect_equal("the SHA-256 that the guest read", guest.facts.get("sha256"), run.sha256(before[:READ_BYTES]))

    # What the NVMe brought into memory, the test device copied there, and the NVMe took back.
    pattern = struct.pack(f"<{WRITE_BYTES // 8}Q", *(at ^ SEED for at in range(WRITE_OFFSET, WRITE_OFFSET + WRITE_BYTES, 8)))
    wanted = before[:WRITE_OFFSET] + pattern + before[:CARRIED_BYTES] + before[CARRIED_TO + CARRIED_BYTES:]
    run.expect(run.disk("disk").read_bytes() == wanted, "the disk does not hold what the guest and the test device put there")

    for name, value in {"ids": "7e4e:0001", "vectors": "64", "resets": "1", "vectors.after": "64", "doorbells": "15",
                        "shared": "1", "violations": "0"}.items():
        run.expect_equal(f"the test device's {name}", guest.facts.get(name), value)
    for name in ("interrupts", "copies"):
        count = sum(guest.numbers(f"{name}.after")) - sum(guest.numbers(f"{name}.before"))
        run.expect(count >= 10, f"{name} while both worked: {count}, at least 10 expected")
    run.expect_fact("testdev.status", "0")
    run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))
