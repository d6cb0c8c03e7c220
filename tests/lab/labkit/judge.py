# SPDX-License-Identifier: MIT
"""Judging a run from outside: what the host's script and the guest reported, the disks, and the host's kernel log."""
from pathlib import Path
import hashlib
import re

# What a healthy host's kernel never says.
HOST_TROUBLE = re.compile(
    r"WARNING: |BUG: |BUG |Oops|Call Trace|kernel panic|Kernel panic|DMAR:.*[Ff]ault|blocked for more than|"
    r"general protection|refcount_t|UBSAN|unchecked MSR access|rcu: INFO|soft lockup|"
    r"vfio-pci.*(?:error|failed|timed? ?out)|irq \d+: nobody cared")
GUEST_DEATH = re.compile(r"Kernel panic.*|Oops:.*|BUG: .*|Unable to handle.*")


class Failed(Exception):
    """The reason, one line."""


class Stopped(Failed):
    """The emulated host ended or stood still without a word of its kernel, or a guest died of a triple fault: the emulation does that
    now and then, so it is worth another run."""


class Guest:
    """What a guest said on its serial port. Facts are the lines "@name=value"; a later one replaces an earlier one."""

    def __init__(self, name: str, text: str):
        self.name = name
        self.text = text
        self.facts = dict(re.findall(r"^@([\w.]+)=(.*?)\r?$", text, re.MULTILINE))
        self.warnings = re.findall(r"^@dmesg (.*?)\r?$", text, re.MULTILINE)

    def numbers(self, fact: str) -> list:
        return [int(word) for word in self.facts.get(fact, "").split()]


class Run:
    """One run of a scenario. `expect` raises at the first thing that is not as it should be."""

    def __init__(self, folder: Path, scenario, machine):
        self.folder = folder
        self.scenario = scenario
        self.machine = machine
        self.facts = dict(line.split("=", 1) for line in self.text("facts").splitlines() if "=" in line)
        self.guests = {}

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def guest(self, name: str = "guest") -> Guest:
        if name not in self.guests:
            self.guests[name] = Guest(name, self.text(f"{name}.serial"))
        return self.guests[name]

    def disk(self, name: str) -> Path:
        return self.folder / f"{name}.img"

    def sha256(self, data) -> str:
        if isinstance(data, Path):
            data = data.read_bytes()
        return hashlib.sha256(data).hexdigest()

    def original(self, disk: str) -> bytes:
        return next(d for d in self.machine.disks if d.id == disk).original()

    def expect(self, condition, reason: str):
        if not condition:
            raise Failed(reason)

    def expect_equal(self, what: str, found, wanted):
        self.expect(found == wanted, f"{what} is {found!r}, not {wanted!r}")

    def expect_fact(self, name: str, wanted: str):
        self.expect(name in self.facts, f"the host's script never reported {name}")
        self.expect_equal(name, self.facts[name], wanted)

    def expect_guest(self, name: str = "guest", status: str = "0") -> Guest:
        """A VM that ended with this status, and whose guest ran to the end of its script and found no fault with it."""
        guest = self.guest(name)
        death = GUEST_DEATH.search(guest.text)
        self.expect(not death, f"{name}'s kernel died: {death and death.group(0)}")
        found = self.facts.get(f"{name}.status")
        if found != status:
            last = (self.text(f"{name}.err").strip().splitlines() or ["nothing on stderr"])[-1]
            ended = "did not end in time" if found == "124" else f"ended with status {found}, not {status}"
            if found == "4":
                self.expect_no_crash()
            raise Failed(f"{name}: tenon {ended}: {last}")
        self.expect("failed" not in guest.facts, f"{name}: {guest.facts.get('failed')}")
        self.expect("done" in guest.facts, f"{name}'s script did not reach its end")
        return guest

    def expect_no_crash(self):
        """No VM of the run ended by a triple fault of its guest."""
        for fact, found in self.facts.items():
            name, dot, kind = fact.rpartition(".")
            if (dot, kind, found) != (".", "status", "4"):
                continue
            crash = next((line for line in self.text(f"{name}.err").splitlines() if "triple fault" in line), None)
            if crash:
                raise Stopped(f"{name}: tenon ended with status 4: {crash}")

    def expect_healthy_kernel(self, guest: Guest, allowed: tuple = ()):
        """The guest's kernel logged no error and no warning but those that say something of the emulated CPU."""
        known = ALLOWED_GUEST_WARNINGS + tuple(allowed)
        for line in guest.warnings:
            self.expect(any(re.search(pattern, line) for pattern in known), f"{guest.name}'s kernel logged: {line}")

    def expect_clean_host(self):
        for name in ("host.log", "host-dmesg.log"):
            trouble = next((line for line in self.text(name).splitlines() if HOST_TROUBLE.search(line)
                            and not any(re.search(known, line) for known in getattr(self.scenario, "host_messages", ()))), None)
            if trouble:
                # A double fault of the host, which is also what the emulation's triple faults of guests start as.
                kind = Stopped if "stack guard page was hit" in trouble else Failed
                raise kind(f"the host's kernel logged: {trouble.strip()}")

    def expect_released(self):
        self.expect_fact("released.processes", "")
        self.expect_fact("released.files", "")
        for device in self.machine.devices:
            if device.bind == "vfio-pci":
                self.expect_fact(f"released.{device.name}", "ok")


# Regular expressions of warnings that a guest's kernel logs for reasons that are not the VMM's.
ALLOWED_GUEST_WARNINGS = (
    r"kvm_amd: SVM not supported by CPU",  # the guest's kernel is the host's, KVM included
    r"clocksource: Long readout interval",  # this machine was busy for a second
)
