# SPDX-License-Identifier: MIT
"""What resets a guest's virtual bus (VFIO, bridge control, slot power, FLR) resets that host group and no other; an NVMe works on."""
from labkit import *
import re

machine = Machine(
    disks=[Disk("disk", size_mib=64)],
    ports=[RootPort("pair", at="05.0"), RootPort("other", at="06.0")],
    devices=[
        Device("first", "nvme,serial=first,multifunction=on", bus="pair", at="00.0"),
        Device("second", "e1000e,mac=52:54:00:00:00:02", bus="pair", at="00.1"),
        Device("served", "nvme,serial=served,drive=disk", bus="other", at="00.0"),
    ],
)
host_programs = ["hot_reset_sets"]
programs = ["blockio", "nested_vfio"]
tools = ["setpci"]
modules = ["nvme-core", "nvme", "e1000e"]
timeout = 400

# step: how many resets of the pair's bus and of its first function the host may do; and none of anything else
ONE, NONE = range(1, 2), range(1)
WANTED = {"vfio": (ONE, NONE), "setpci": (ONE, NONE), "many": (range(1, 11), NONE), "power": (ONE, NONE), "flr": (NONE, ONE)}
EVENT = re.compile(r": (flr|power|bus): \(.*?\) .*?number=(\d+) devfn=(\d+)")


def events(run, name):
    """What the host's kernel reset: {("bus", BDF of the bridge) or ("flr", BDF): how often}."""
    found = {}
    for kind, bus, devfn in EVENT.findall(run.text(f"{name}.trace")):
        key = kind, f"0000:{int(bus):02x}:{int(devfn) >> 3:02x}.{int(devfn) & 7}"
        found[key] = found.get(key, 0) + 1
    return found


def judge(run):
    bdf = {name: address for name, address, *_ in (line.split(" ") for line in run.text("devices").splitlines())}
    port, function = ("bus", "0000:00:05.0"), ("flr", bdf["first"])
    known = events(run, "known")
    run.expect(known.get(port) == 2 and known.get(function), f"two bus resets and the opening of the devices were traced as {known}")
    for interface in ("iommufd", "container"):
        judge_guest(run, interface, port, function)


def judge_guest(run, name, port, function):
    guest = run.expect_guest(name)
    for step, (bus, flr) in WANTED.items():
        where = f"{name}, step {step}"
        run.expect(run.text(f"{name}.{step}.trace"), f"{where}: the host counted nothing")
        found = events(run, f"{name}.{step}")
        strangers = sorted(key for key in found if key not in (port, function))
        run.expect(not strangers, f"{where}: the host reset {strangers}")
        for key, allowed in ((port, bus), (function, flr)):
            run.expect(found.get(key, 0) in allowed, f"{where}: the host reset {key} {found.get(key, 0)} times, not {list(allowed)}")
        before, after = guest.numbers(f"served.{step}")
        run.expect(after >= before + 2, f"{where}: the other group's NVMe went from round {before} to {after} only")
        run.expect_equal(f"{where}: the pair's drivers afterwards", guest.facts.get(f"alive.{step}"), "live 52:54:00:00:00:02")
    for fact, wanted in (("reset", "done"), ("marks", "gone gone"), ("served", "0"),
                         # setpci: ids of the functions while the bus is held in reset and after it, and BAR 0 before and after
                         ("held.ids", "ffff ffff"), ("back.ids", "1b36 8086"), ("held.bars", "set set"), ("back.bars", "0 0")):
        run.expect_equal(f"{name}: {fact}", guest.facts.get(fact), wanted)
    run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))
