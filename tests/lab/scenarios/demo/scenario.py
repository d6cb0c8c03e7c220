# SPDX-License-Identifier: MIT
"""What `make demo-lab` shows: Linux boots with an NVMe assigned, reads it, writes it, and powers off."""
from labkit import *

MIB = 1 << 20
in_all = False
based_on = "linux-nvme"


def judge(run):
    guest = run.expect_guest()
    before, after = run.original("disk"), run.disk("disk").read_bytes()
    print("\nOutside again, on this machine:")
    print(f"  SHA-256 of the backing file before   {run.sha256(before)}")
    run.expect_equal("the SHA-256 that the guest read", guest.facts.get("sha256"), run.sha256(before))
    print("  the guest read the same: every byte came by the device's own DMA into guest memory")
    run.expect(after[:32 * MIB] == before[:32 * MIB] and after[48 * MIB:] == before[48 * MIB:],
               "the backing file changed where the guest did not write")
    wrote = after[32 * MIB:48 * MIB]
    run.expect(all(int.from_bytes(wrote[at:at + 8], "little") == 32 * MIB + at for at in range(0, 16 * MIB, 4096)),
               "the backing file does not hold what the guest wrote")
    print("  the backing file holds the 16 MiB that the guest wrote, and nothing else changed")
    run.expect_released()
    print("  tenon ended with status 0, no process and no open device is left, the host's kernel log is clean\n")
