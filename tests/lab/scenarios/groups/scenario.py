# SPDX-License-Identifier: MIT
"""A group of two functions: refused in exact words while the host uses one, works as a whole, goes to one VM at a time."""
from labkit import *

machine = Machine(
    disks=[Disk("disk", size_mib=8)],
    devices=[
        # What is below a root port without ACS is one IOMMU group.
        Device("nvme", "nvme,serial=tenon,drive=disk,multifunction=on", bus="port1", at="00.0", bind=""),
        Device("nic", "e1000e", bus="port1", at="00.1", bind=""),
    ],
    ports=[RootPort("port1", at="08.0")],
)
programs = ["blockio"]
modules = ["nvme-core", "nvme"]
INTERFACES = ("iommufd", "container")


def judge(run):
    address = dict(line.split()[:2] for line in run.text("devices").splitlines())
    nvme, nic, group = address["nvme"], address["nic"], run.facts["group"]
    for interface in INTERFACES:
        run.expect_fact(f"half.{interface}.status", "1")
        run.expect_equal(
            f"what tenon run says of half a group on {interface}", run.text(f"half.{interface}").strip(),
            f"tenon: {nvme}: its IOMMU group {group} is given as a whole, and the host uses {nic}; members: {nvme} (vfio-pci), "
            f"{nic} (e1000e); if the host can spare them: tenon bind {nic}")
        guest = run.expect_guest(interface)
        run.expect_equal(f"what the guest on {interface} read", guest.facts.get("sha256"),
                         run.sha256(run.original("disk")[4 << 20:8 << 20]))
        run.expect_healthy_kernel(guest)
        run.expect_fact(f"other.{interface}.status", "1")
        said = run.text(f"other.{interface}").strip()
        run.expect(said.startswith(f"tenon: {nic}: ") and f"IOMMU group {group}" in said and "; " in said and said.count("\n") == 0,
                   f"the second VM on {interface} does not name the group and what to do: {said}")
    run.expect_fact("devices.held", "1")
    for fact, driver in (("after.nvme", ""), ("after.nic", "e1000e")):
        run.expect_fact(fact, driver)
