# SPDX-License-Identifier: MIT
"""Measures process start to the guest's /init, and memory beyond guest RAM: tenon, QEMU microvm, q35, kvmtool (`make bench`)."""
from labkit import *

in_all = False
timeout = 900
machine = Machine(
    disks=[Disk("disk", size_mib=8)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0")],
)
guest_init = "bench_init"
host_programs = ["boot_time"]
ROUNDS = 5


def judge(run):
    lines = run.text("measured").splitlines()
    wrong = [line for line in lines if len(line.split()) != 4]
    run.expect(not wrong, f"a VMM did not get its guest to /init with the NVMe: {wrong[0] if wrong else ''}")
    run.expect(sum(line.startswith("tenon ") for line in lines) == ROUNDS, f"tenon did not run {ROUNDS} times")
