# SPDX-License-Identifier: MIT
"""Measures how fast 4 GiB of guest memory come within a device's reach: tenon, QEMU, the bare ioctl (`make bench`)."""
from labkit import *

in_all = False
timeout = 1800
machine = Machine(
    memory_mib=7168,
    pinned=True,
    disks=[Disk("disk", size_mib=8)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0")],
    extra=["-mem-prealloc"],  # this machine's own page faults are not to be measured
)
guest_init = "bench_init"  # never started
host_programs = ["bare_map"]
ROUNDS = 3
MIB = 4096
# Who takes part with which kind of memory. Of small and transparent huge pages tenon's and QEMU's memory is private, as it is in
# both by default; of the pool's it is a file.
PROGRAMS = {
    "4k": ["tenon", "tenon-shared", "qemu-private", "qemu-private-prealloc", "qemu", "bare"],
    "thp": ["tenon", "tenon-shared", "qemu-private", "qemu-private-prealloc", "bare"],
    "2m": ["tenon", "qemu", "qemu-prealloc", "bare"],
}


def judge(run):
    lines = [line.split() for line in run.text("measured").splitlines()]
    for kind, programs in PROGRAMS.items():
        for program in programs:
            mine = [line for line in lines if line[:2] == [kind, program]]
            run.expect(len(mine) == ROUNDS, f"{program} was measured {len(mine)} times with {kind} memory, not {ROUNDS}")
            for line in mine:
                run.expect(int(line[-1]) == MIB, f"{program} mapped {line[-1]} MiB of {MIB} with {kind} memory")
