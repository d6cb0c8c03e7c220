# SPDX-License-Identifier: MIT
"""VFIO inside a guest tells the same reset groups as the host's kernel, for single devices, slots, switches, bridges, VFs and parts."""
from collections import Counter
from labkit import *
import json

# Which guest device is which of the host's is told by the devices themselves (host/reset_set.h): each NIC has a MAC of its own,
# each NVMe a number of MSI-X vectors. Only VFs of one PF are alike; they are told apart by nothing, and share one set.
MACS = iter(range(1, 256))
VECTORS = iter(range(2, 65))


def nic(model="e1000e"):
    return f"{model},mac=52:54:00:00:00:{next(MACS):02x}"


def nvme():
    vectors = next(VECTORS)
    return f"nvme,serial=v{vectors},msix_qsize={vectors}"


machine = Machine(
    ports=[
        RootPort("alone", at="04.0"), RootPort("pair", at="05.0"), RootPort("quad1", at="06.0"), RootPort("quad2", at="07.0"),
        RootPort("above1", at="08.0"), Bridge("switch1", at="00.0", line="x3130-upstream", bus="above1"),
        Bridge("down1", at="00.0", line="xio3130-downstream,chassis=41,slot=41", bus="switch1"),
        Bridge("down2", at="01.0", line="xio3130-downstream,chassis=42,slot=42", bus="switch1"),
        RootPort("above2", at="09.0"), Bridge("switch2", at="00.0", line="x3130-upstream", bus="above2"),
        Bridge("old", at="0a.0", line="pci-bridge,chassis_nr=20"),
        RootPort("halves", at="0b.0"),
        RootPort("above3", at="0c.0"), Bridge("switch3", at="00.0", line="x3130-upstream", bus="above3"),
        RootPort("above4", at="0d.0"),
        RootPort("near1", at="0f.0", line="pcie-root-port,x-speed=2_5,x-width=1,disable-acs=on,multifunction=on"),
        RootPort("near2", at="0f.1", line="pcie-root-port,x-speed=2_5,x-width=1,disable-acs=on"),
    ],
    before=["-device", "nvme-subsys,id=subsys,nqn=subsys"],
    devices=[
        Device("single", nvme(), bus="alone", at="00.0"),
        # Neither of these NICs has a function-level reset.
        Device("pair0", nic() + ",multifunction=on", bus="pair", at="00.0"),
        Device("pair1", nic(), bus="pair", at="00.1"),
        Device("quad10", nvme() + ",multifunction=on", bus="quad1", at="00.0"),
        Device("quad11", nic(), bus="quad1", at="00.1"),
        Device("quad20", nic() + ",multifunction=on", bus="quad2", at="00.0"),
        Device("quad23", nvme(), bus="quad2", at="00.3"),
        Device("down11", nic(), bus="down1", at="00.0"),
        Device("down21", nvme(), bus="down2", at="00.0"),
        # On the switch's internal bus: an IOMMU group each, a bus reset in common.
        Device("inner1", nvme(), bus="switch2", at="01.0"),
        Device("inner2", nic(), bus="switch2", at="02.0"),
        Device("old1", nic("e1000"), bus="old", at="01.0"),
        Device("old3", nic("e1000"), bus="old", at="03.0"),
        Device("root", nic(), at="0e.0"),
        # Two reset groups in one IOMMU group: their ports are functions of one slot, without ACS.
        Device("near11", nvme(), bus="near1", at="00.0"),
        Device("near21", nic(), bus="near2", at="00.0"),
        # Parts of groups: what is left is bound to vfio-pci and nobody's, or the host's own.
        Device("part0", nvme() + ",multifunction=on", bus="halves", at="00.0"),
        Device("part1", nic(), bus="halves", at="00.1"),
        Device("shared1", nvme(), bus="switch3", at="01.0"),
        Device("shared2", nic(), bus="switch3", at="02.0", bind=""),
        Device("pf", "nvme,id=pf,serial=pf,subsys=subsys,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2,"
                     "max_ioqpairs=6,msix_qsize=65", bus="above4", at="00.0"),
    ],
)
host_programs = ["hot_reset_sets"]
programs = ["nested_vfio", "pcicfg"]
timeout = 400

# What is assigned together, each by both of the host's interfaces, and how many devices have a set of which size on the host
INTERFACES = ("iommufd", "container")
SHAPES = {"whole": {1: 6, 2: 10, 0: 1}, "part": {2: 2}, "vfs": {3: 3}}
MISSING = {"part0": "part1", "shared1": "shared2"}


class HostDevice:
    """A line of hot_reset_sets."""

    def __init__(self, line):
        self.bdf, self.identity, self.outcome, *self.members = line.split()


def judge(run):
    devices = {name: bdf for name, bdf, *_ in (line.split(" ") for line in run.text("devices").splitlines())}
    run.expect_equal("what went wrong", run.facts.get("trouble", ""), "")
    for part, shape in SHAPES.items():
        host = {device.bdf: device for device in map(HostDevice, run.text(f"{part}.sets").splitlines())}
        judge_host(run, part, shape, host)
        for interface in INTERFACES:
            judge_guest(run, f"{part}.{interface}", host)
    judge_plan(run, devices)


def judge_host(run, part, shape, host):
    """The host is what the machine above was made for."""
    run.expect_fact(f"{part}.sets", "0")
    found = Counter(len(device.members) for device in host.values())
    run.expect_equal(f"{part}: how many host devices have a set of which size", dict(found), shape)
    twins = [identity for identity, count in Counter(device.identity for device in host.values()).items() if count > 1]
    run.expect(len(twins) == (part == "vfs"), f"{part}: devices that nothing tells apart: {twins}")


def judge_guest(run, vm, host):
    guest = run.expect_guest(vm)
    seen = {}  # BDF in the guest: (identity, outcome, members)
    for number in range(int(guest.facts.get("devices", 0))):
        bdf, identity, outcome, *members = guest.facts[f"device.{number}"].split()
        seen[bdf] = identity, outcome, members
    run.expect_equal(f"{vm}: devices that the guest sees", Counter(identity for identity, *_ in seen.values()),
                     Counter(device.identity for device in host.values()))

    told = Counter()
    for bdf, (identity, outcome, members) in seen.items():
        strangers = [member for member in members if member not in seen]
        run.expect(not strangers, f"{vm}: the guest's {bdf} resets with {strangers}, which are not assigned")
        told[identity, outcome, tuple(sorted(seen[member][0] for member in members))] += 1
    wanted = Counter((device.identity, *truth(device, host)) for device in host.values())
    wrong = sorted(told - wanted)
    run.expect(not wrong, f"{vm}: the guest is told {describe(wrong, host)}; right is {describe(sorted(wanted - told), host)}")
    judge_topology(run, vm, seen)
    judge_isolation(run, guest, host, seen)
    run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))


def describe(told, host):
    """The first of what devices are told of themselves."""
    identity, outcome, members = (told or [("nothing else", "", ())])[0]
    bdfs = "".join(f" (the host's {device.bdf})" for device in host.values() if device.identity == identity)
    return f"of {identity}{bdfs}: {' '.join((outcome, *members))}, and {max(len(told) - 1, 0)} more"


def truth(device, host):
    """What VFIO must tell of this device in a guest that has all of `host`: a set of identities, or that there is no hot reset.

    That the host's kernel knows the set is not enough: it must be all the guest's, and the kernel must do that reset. It does not
    reset a PF that has VFs, whoever owns them.
    """
    if device.outcome != "done" or not all(member in host for member in device.members):
        return "ENODEV", ()
    return "set", tuple(sorted(host[member].identity for member in device.members))


def judge_topology(run, vm, seen):
    """`tenon ctl topology` says the same of the guest's addresses as VFIO in the guest does."""
    said = {}
    for group in json.loads(run.text(f"{vm}.topology"))["topology"]["reset_groups"]:
        members = sorted(f"0000:{member['slot']}" for member in group["members"])
        for member in members:
            said[member] = ("set", members) if group["bus_reset"] else ("ENODEV", [])
    for bdf, (_, outcome, members) in seen.items():
        run.expect_equal(f"{vm}: what tenon ctl topology says of {bdf}", said.get(bdf), (outcome, sorted(members)))
    run.expect_equal(f"{vm}: the devices of tenon ctl topology", sorted(said), sorted(seen))


class Function:
    """A PCI function as the guest has it: the bridge that it is behind, and whether its PCI Express capabilities isolate it."""

    def __init__(self, text):
        self.bdf, self.parent, self.kind, self.acs = text.split()

    def isolates(self, functions):
        """Linux' pci_acs_enabled, in a guest whose kernel switches on what is there."""
        beside = [each for each in functions.values() if each.bdf[:-2] == self.bdf[:-2]]
        endpoint = self.kind in ("0", "1", "9") and len(beside) == 1
        return endpoint or self.kind != "pci" and self.acs == "acs"

    def group(self, functions):
        """The function that stands for its IOMMU group, as Linux' pci_device_group finds it."""
        top, path = self, [self]
        while path[-1].parent in functions:
            path.append(functions[path[-1].parent])
        for depth in range(1, len(path)):
            if all(bridge.isolates(functions) for bridge in path[depth:]):
                break
            top = path[depth]
        if top.isolates(functions):
            return top.bdf
        return min(each.bdf for each in functions.values() if each.bdf[:-2] == top.bdf[:-2] and not each.isolates(functions))


def judge_isolation(run, guest, host, seen):
    """With an IOMMU, devices would share a group in the guest if they do on the host or reset together there, and no others would."""
    functions = {}
    for number in range(int(guest.facts["functions"])):
        function = Function(guest.facts[f"function.{number}"])
        functions[function.bdf] = function
    found = {}
    for bdf, (identity, *_) in seen.items():
        found.setdefault(functions[bdf].group(functions), []).append(identity)

    wanted = []  # of sets of host BDFs: each the union of all that overlap
    part = guest.name.split(".")[0]
    shared = {}
    for bdf, number in (line.split() for line in run.text(f"{part}.groups").splitlines()):
        shared.setdefault(number, set()).add(bdf)
    for members in [*shared.values(), *(set(device.members) for device in host.values() if truth(device, host)[0] == "set")]:
        overlapping = [each for each in wanted if each & members]
        wanted = [each for each in wanted if not each & members] + [members.union(*overlapping)]
    wanted = sorted(sorted(host[bdf].identity for bdf in each) for each in wanted)
    run.expect_equal(f"{guest.name}: who shares an IOMMU group in a guest with an IOMMU", sorted(map(sorted, found.values())), wanted)


def judge_plan(run, devices):
    """What `tenon run --dry-run` says: of a part of a group, who is missing; as data, what ctl says of the VM that then runs."""
    for part in SHAPES:
        run.expect_fact(f"{part}.plan", "0")
    run.expect_fact("part.json", "0")
    plan, ran = (json.loads(run.text(name))["topology"] for name in ("part.json", "part.iommufd.topology"))
    run.expect_equal("the topology of the VM with parts of groups", ran, plan)
    for part, missing in MISSING.items():
        lines = [line for line in run.text("part.plan").splitlines()
                 if "no bus reset" in line and devices[part] in line and devices[missing] in line]
        run.expect(lines, f"--dry-run does not say that {part} {devices[part]} gets no bus reset because {missing} {devices[missing]} is missing")
        why = [group["why"] for group in plan["reset_groups"] if devices[part] in [member["device"] for member in group["members"]]]
        run.expect(len(why) == 1 and devices[missing] in why[0], f"--dry-run --json does not name {missing} {devices[missing]}: {why}")
