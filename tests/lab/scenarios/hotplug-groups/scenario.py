# SPDX-License-Identifier: MIT
"""A device that comes while the VM runs lands in its reset group or is refused; a group leaves the VM as a whole."""
from labkit import *
import json

machine = Machine(
    ports=[RootPort("pair", at="05.0"), RootPort("alone", at="06.0"), RootPort("halves", at="07.0")],
    devices=[
        Device("first", "nvme,serial=first,msix_qsize=2,multifunction=on", bus="pair", at="00.0"),
        Device("second", "e1000e,mac=52:54:00:00:00:02", bus="pair", at="00.1"),
        Device("single", "nvme,serial=single,msix_qsize=3", bus="alone", at="00.0"),
        Device("half0", "nvme,serial=half0,msix_qsize=4,multifunction=on", bus="halves", at="00.0"),
        Device("half1", "e1000e,mac=52:54:00:00:00:05", bus="halves", at="00.1"),
    ],
)
host_programs = ["hot_reset_sets"]
programs = ["nested_vfio"]
modules = ["nvme-core", "nvme"]


def judge(run):
    bdf = {name: address for name, address, *_ in (line.split(" ") for line in run.text("devices").splitlines())}
    run.expect_equal("what went wrong", run.facts.get("trouble", ""), "")
    host = [line.split() for line in run.text("sets").splitlines()]
    identities = {address: identity for address, identity, *_ in host}
    wanted = sorted((identity, outcome == "done", sorted(identities[member] for member in members)) for _, identity, outcome, *members in host)
    run.expect_equal("how many members the host's sets have", sorted(len(members) for *_, members in wanted), [1, 2, 2])

    guest = run.expect_guest()
    told = [guest.facts[f"device.{number}"].split() for number in range(int(guest.facts["devices"]))]
    inside = {address: identity for address, identity, *_ in told}
    run.expect_equal("the sets that VFIO tells in the guest",
                     sorted((identity, outcome == "set", sorted(inside.get(member) for member in members)) for _, identity, outcome, *members in told),
                     wanted)

    # Half a group may not come, nor may half a group go: why, and what to do.
    for what, words in (("add", (bdf["half0"], bdf["half1"])), ("remove", (bdf["first"], "--group"))):
        run.expect_fact(f"{what}.status", "1")
        said = run.text(f"{what}.refused")
        run.expect(said.count("\n") == 1 and all(word in said for word in words), f"the refusal to {what} half a group does not say {words}: {said}")

    topology = {name: sorted(tuple(sorted(member["device"] for member in group["members"]))
                             for group in json.loads(run.text(f"{name}.topology"))["topology"]["reset_groups"] if group["bus_reset"])
                for name in ("both", "left")}
    run.expect_equal("the groups once the device has come", topology["both"], sorted([(bdf["first"], bdf["second"]), (bdf["single"],)]))
    run.expect_equal("the groups once the pair has gone", topology["left"], [(bdf["single"],)])
    run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))
