# SPDX-License-Identifier: MIT
"""WBINVD is KVM's affair while a device's DMA bypasses the caches: registered at attach, gone at detach, on both interfaces."""
from labkit import *

machine = Machine(
    disks=[Disk("nvme", 8)],
    ports=[RootPort("nvme_port", at="04.0")],
    devices=[Device("nvme", "nvme,serial=nvme,drive=nvme", at="00.0", bus="nvme_port")],
)
modules = ["nvme-core", "nvme"]


def judge(run):
    wanted = 0 if run.scenario.machine.coherent else 1
    for interface in ("iommufd", "container"):
        run.expect_equal(f"{interface}: VM's status", run.facts.get(f"{interface}.status"), "0")
        for when, files, counts in (("attached", "1 0", f"{wanted} 0"), ("detached", "1 1", f"{wanted} {wanted}")):
            run.expect_equal(
                f"{interface}: files that KVM was given and lost once {when}",
                run.facts.get(f"{interface}.files.{when}"),
                files,
            )
            run.expect_equal(
                f"{interface}: registrations and their ends once {when}", run.facts.get(f"{interface}.{when}"), counts
            )
        told = "WBINVD" if wanted else ""
        run.expect_equal(f"{interface}: what the user is told of", run.facts.get(f"{interface}.told"), told)
