# SPDX-License-Identifier: MIT
"""What libtenon predicts of a reset (FLR, bus, power cycle, who is hit, allowed or not) is what the kernel then does."""
from labkit import *
import json
import re

# A machine of many slots. Below a root port, functions of one device are one IOMMU group; on the switch's internal bus and on
# that alone, devices have a group each and a bus reset in common.
machine = Machine(
    disks=[Disk(name, size_mib=1, content="zero") for name in ("d1", "d2", "d3", "d4")],
    ports=[
        RootPort("pair", at="05.0"), RootPort("port1", at="06.0"), RootPort("port2", at="07.0"),
        RootPort("above", at="08.0"), Bridge("switch", at="00.0", line="x3130-upstream", bus="above"),
        Bridge("bridge1", at="09.0", line="pci-bridge,chassis_nr=20"),
        Bridge("bridge2", at="0a.0", line="pci-bridge,chassis_nr=21"),
        Bridge("below", at="03.0", line="pci-bridge,chassis_nr=22", bus="bridge2"),
        # A link of today's speed never reports active in QEMU, so that the kernel's bus reset fails.
        RootPort("broken", at="0b.0", line="pcie-root-port"),
    ],
    devices=[
        Device("flr", "nvme,serial=1,drive=d1", at="0c.0"),
        Device("power", "e1000e", at="0d.0"),
        Device("nothing", "edu", at="0e.0"),
        Device("fun0", "nvme,serial=2,drive=d2,multifunction=on", bus="pair", at="00.0"),
        Device("fun1", "e1000e", bus="pair", at="00.1"),
        Device("lone", "edu", bus="port1", at="00.0"),
        Device("lonenic", "e1000e", bus="port2", at="00.0"),
        Device("left", "nvme,serial=3,drive=d3", bus="switch", at="00.0"),
        Device("right", "e1000e", bus="switch", at="01.0"),
        Device("old1", "edu", bus="bridge1", at="01.0"),
        Device("old2", "e1000", bus="bridge1", at="02.0"),
        Device("beside", "e1000", bus="bridge2", at="02.0"),
        Device("dead0", "nvme,serial=4,drive=d4,multifunction=on", bus="broken", at="00.0"),
        Device("dead1", "e1000e", bus="broken", at="00.1"),
    ],
)
host_programs = ["resetter"]
timeout = 400

# case: (method, allowed, {whom it would hit too: owner}, what the reason says, what the kernel does)
WANTED = {
    "function-level": ("function", True, {}, "flr", {"flr": 1}),
    "power-cycle": ("power", True, {}, "pm", {"power": 1}),
    "no-method": ("none", False, {}, "no reset of its own", {}),
    "alone-behind-a-port": ("bus", True, {}, "bus", {"bus": 1}),
    "bus-before-power-cycle": ("bus", True, {}, "bus", {"bus": 1}),
    "function-level-in-a-shared-slot": ("function", True, {}, "flr", {"flr": 1}),
    "slot-both-assigned": ("bus", True, {"fun1": "space"}, "together with", {"bus": 1}),
    "slot-other-unopened": ("bus", True, {"fun1": "group"}, "together with", {"bus": 1}),
    "slot-other-stub": ("bus", False, {"fun1": "other"}, "driver pci-stub", {}),
    "slot-other-unbound": ("bus", False, {"fun1": "other"}, "no driver", {}),
    "slot-other-never": ("bus", False, {"fun1": "space"}, "reset=none", {}),
    "switch-both-assigned": ("bus", True, {"right": "space"}, "together with", {"bus": 1}),
    "switch-other-unopened": ("bus", False, {"right": "other"}, "not this VM's", {}),
    "switch-other-in-another-process": ("bus", False, {"right": "other"}, "not this VM's", {}),
    "switch-other-host-driver": ("bus", False, {"right": "other"}, "host's driver e1000e", {}),
    "switch-other-unbound": ("bus", False, {"right": "other"}, "no driver", {}),
    "switch-power-cycle-remains": ("power", True, {}, "because a reset of its bus would also hit", {"power": 1}),
    "conventional-both": ("bus", True, {"old2": "space"}, "together with", {"bus": 1}),
    "conventional-other-unopened": ("bus", True, {"old2": "group"}, "together with", {"bus": 1}),
    "conventional-beside-a-bridge": ("bus", False, {}, "a bridge", {}),
    "space": ("bus", True, {"right": "space"}, "together with", {"bus": 1, "flr": 1}),
    "guest-bus": ("bus", True, {"right": "space"}, "together with", {"bus": 1}),
    "guest-bus-before-function-level": ("bus", True, {"fun0": "space"}, "together with", {"bus": 1}),
    "guest-bus-with-another": ("bus", False, {"right": "other"}, "not this VM's", {}),
}


class Case:
    """What resetter printed, by the first word of its lines, and what the kernel traced between the reset's two ends."""

    def __init__(self, run, name):
        self.lines = [line.split(" ") for line in run.text(f"cases/{name}.out").splitlines()]
        trace = run.text(f"cases/{name}.trace")
        between = re.search(r"reset begins(.*?)reset ends", trace, re.DOTALL)
        self.did = {}
        for event in re.findall(r": (flr|power|bus): ", between.group(1) if between else ""):
            self.did[event] = self.did.get(event, 0) + 1
        self.traced = between is not None

    def all(self, word):
        return [line[1:] for line in self.lines if line[0] == word]

    def one(self, word):
        return (self.all(word) or [[]])[0]


def judge(run):
    names = {bdf: name for name, bdf, _ in (line.split() for line in run.text("devices").splitlines())}
    wrong = []
    for name, wanted in WANTED.items():
        reason = judge_case(run, name, wanted, names)
        if reason:
            wrong.append(f"{name}: {reason}")
    (run.folder / "cases.wrong").write_text("\n".join(wrong) + "\n")
    if run.facts["interface"] == "iommufd":
        asked = sum(bool(Case(run, name).all("kernel")) for name in WANTED)
        run.expect(asked >= 8, f"the kernel was asked itself in {asked} cases only")
    run.expect(not wrong, f"{len(wrong)} of {len(WANTED)} cases (all in cases.wrong): {wrong[0] if wrong else ''}")
    judge_policies(run)
    judge_guest_buses(run, names)
    judge_broken(run)
    judge_dry_run(run, names)


def judge_case(run, name, wanted, names):
    """The reason why a case went wrong, or None."""
    method, allowed, others, words, did = wanted
    case = Case(run, name)
    plan, outcome = case.one("plan"), case.one("outcome")
    if not plan or not outcome:
        return f"it has no plan or no outcome: {run.text(f'cases/{name}.out').strip()[-300:]}"
    interface = run.facts["interface"].removeprefix("--")
    if case.one("interface") != [interface]:
        return f"it went through {case.one('interface')}, not {interface}"
    found = (plan[1], plan[2] == "yes")
    if found != (method, allowed):
        return f"predicted {found}, not {(method, allowed)}: {' '.join(plan[3:])}"
    if words not in " ".join(plan[3:]):
        return f"the reason does not say {words!r}: {' '.join(plan[3:])}"
    hit = {names.get(line[1], line[1]): line[2] for line in case.all("affected") if line[0] == plan[0]}
    for other, owner in others.items():
        if hit.get(other) != owner:
            return f"{other} is {hit.get(other)}, not {owner}"
    if allowed and len(hit) != len(others) + 1:
        return f"it would hit {hit}"
    # Prediction and outcome
    if [answer for answer in case.all("kernel") if answer[1] == "done"]:
        return "the kernel did what was predicted to be impossible"
    if (outcome[1] == "done") != allowed:
        return f"predicted {'yes' if allowed else 'no'}, but: {' '.join(outcome)}"
    if not case.traced or case.did != did:
        return f"the kernel did {case.did}, not {did}"
    for address, kept in case.all("mark"):
        gone = allowed and (address == plan[0] or names[address] in others or name == "space")
        if method == "power":
            continue  # QEMU's e1000e keeps its registers through D3
        if (kept == "gone") != gone:
            return f"the mark in {names[address]} is {kept}"
    bystander = run.text(f"cases/{name}.bystander").split()
    if len(set(bystander)) > 1:
        return f"a bystander changed: {bystander}"
    return None


def judge_policies(run):
    """What reset=require refuses, and what it lets in."""
    refused = Case(run, "require-host-driver")
    text = " ".join(refused.one("refused"))
    for word in ("e1000e", "IOMMU group", "tenon bind", "its reset is required"):
        run.expect(word in text, f"require-host-driver: the refusal does not say {word!r}: {text}")
    run.expect(not refused.all("outcome"), "require-host-driver: it was reset all the same")
    check = " ".join(Case(run, "require-unopened").one("check"))
    run.expect("not this VM's" in check, f"require-unopened: the check says {check!r}")
    run.expect_equal("require-both: the check", Case(run, "require-both").one("check"), ["ok"])
    never = Case(run, "never")
    run.expect_equal("never: the outcome", never.one("outcome")[1], "done")
    run.expect_equal("never: what the kernel did", never.did, {})


def judge_guest_buses(run, names):
    """A guest's bus that is no bus of the host: each by itself, or none of them."""
    alone = Case(run, "guest-bus-of-devices-that-reset-alone")
    run.expect_equal("guest-bus-of-devices-that-reset-alone: the outcome", alone.one("outcome")[1:2], ["done"])
    run.expect_equal("guest-bus-of-devices-that-reset-alone: what the kernel did", alone.did, {"flr": 1, "power": 1})
    marks = {names[address]: kept for address, kept in alone.all("mark")}
    run.expect_equal("guest-bus-of-devices-that-reset-alone: flr's mark", marks.get("flr"), "gone")
    without = Case(run, "guest-bus-without-one")
    run.expect_equal("guest-bus-without-one: the outcome", without.one("outcome")[1:2], ["refused"])
    run.expect(without.one("plan")[:1] and names.get(without.all("plan")[1][0]) == "right" and
               without.all("plan")[1][0] in " ".join(without.one("outcome")),
               f"guest-bus-without-one: who is missing is not said: {' '.join(without.one('outcome'))}")
    run.expect_equal("guest-bus-without-one: what the kernel did", without.did, {})
    run.expect_equal("guest-bus-without-one: the marks", [kept for _, kept in without.all("mark")], ["kept", "kept"])


def judge_broken(run):
    """A bus reset that the hardware fails is tried once, at open, and not promised after that."""
    broken = Case(run, "broken-link")
    run.expect_equal("broken-link: the prediction", broken.one("plan")[1:3], ["bus", "no"])
    run.expect("tried and failed" in " ".join(broken.one("plan")), f"broken-link: {broken.one('plan')}")
    run.expect_equal("broken-link: the outcome", broken.one("outcome")[1], "refused")
    run.expect_equal("broken-link: what the kernel did", broken.did, {})


def judge_dry_run(run, names):
    """tenon tells the same plans, and was content with reset=require."""
    text = run.text("cases/dry-run.json")
    run.expect(text, f"dry-run: no plan: {run.text('cases/dry-run.err').strip()}")
    plans = {names[device["address"]]: device["reset"] for device in json.loads(text)["devices"]}
    found = {name: (plan["method"], plan["allowed"], [(names[each["address"]], each["owner"]) for each in plan["affected"]])
             for name, plan in plans.items()}
    run.expect_equal("dry-run: the plans", found, {
        "flr": ("function", True, [("flr", "self")]),
        "left": ("bus", True, [("left", "self"), ("right", "vm")]),
        "right": ("bus", True, [("right", "self"), ("left", "vm")]),
    })
