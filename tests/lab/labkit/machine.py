# SPDX-License-Identifier: MIT
"""The shape of an emulated host, as a scenario declares it, and the QEMU command line that makes it."""
from dataclasses import dataclass, field
from pathlib import Path
import random

# No XSAVE: TCG does not intercept XSETBV for a nested hypervisor, so KVM does not follow what a guest does with it. The guest's
# kernel would complain of its CPUID, and its signal frames would not restore. No AVX follows.
CPU = "EPYC,+svm,+npt,-xsave,-avx,-avx2,-fma,-f16c"

# Slot 0x1b of the root bus carries the network of a pair of hosts. Slots 0x1c-0x1e of the root bus carry the lab's own 9p shares; 0x1f is q35's.
SHARES_FIRST_SLOT = 0x1C


@dataclass
class Disk:
    """A raw image in the run's folder: `pieces` of (content, MiB), where content is "random" or "zero".

    Random content follows from the disk's name alone, so that a failed run can be repeated.
    """

    id: str
    size_mib: int = 64
    content: str = "random"

    def make(self, folder: Path) -> Path:
        path = folder / f"{self.id}.img"
        with open(path, "wb") as image:
            if self.content == "random":
                source = random.Random(self.id)
                for _ in range(self.size_mib):
                    image.write(source.randbytes(1 << 20))
            else:
                image.truncate(self.size_mib << 20)
        return path

    def original(self) -> bytes:
        source = random.Random(self.id)
        if self.content != "random":
            return bytes(self.size_mib << 20)
        return b"".join(source.randbytes(1 << 20) for _ in range(self.size_mib))


@dataclass
class RootPort:
    """A PCIe root port. The default link is the one whose hot reset works in QEMU."""

    id: str
    at: str  # "05.0": slot and function on the root bus
    line: str = "pcie-root-port,x-speed=2_5,x-width=1"
    bus: str = ""

    def numbers(self, number: int) -> str:
        return f",chassis={number},slot={number}"


@dataclass
class Bridge:
    """A bridge of another kind: `pci-bridge,chassis_nr=9` on the root bus, or `x3130-upstream` below a RootPort.

    What is on the switch's internal bus, below x3130-upstream, has one IOMMU group each and a bus reset in common.
    """

    id: str
    at: str
    line: str
    bus: str = ""

    def numbers(self, number: int) -> str:
        return ""


@dataclass
class Device:
    """A PCI device of the emulated host.

    `name` becomes a variable of the host's script in capitals, which holds its address: nvme -> $NVME.
    `bus` is "" for the root bus or the id of a port or bridge; `at` is slot and function there, two digits each side of the dot
    as sysfs writes them. `bind` is the host driver it gets, or "" for none.
    """

    name: str
    line: str
    at: str
    bus: str = ""
    bind: str = "vfio-pci"


@dataclass
class Machine:
    devices: list = field(default_factory=list)
    ports: list = field(default_factory=list)  # those above first
    disks: list = field(default_factory=list)
    memory_mib: int = 1536
    cpus: int = 2
    pinned: bool = False  # each CPU on one of this machine's; for measurements, where its scheduler might put two on one
    coherent: bool = False  # the IOMMU's snoop control; without it every assigned device is non-coherent
    append: str = ""  # more kernel parameters of the host
    extra: list = field(default_factory=list)  # more QEMU arguments; $OUT is the run's folder
    before: list = field(default_factory=list)  # QEMU arguments that devices refer to

    def path_of(self, device) -> str:
        """The way down to a device, as the host resolves it: "05.0/00.0" is function 0 below the port at 05.0."""
        if not device.bus:
            return device.at
        port = next(p for p in self.ports if p.id == device.bus)
        return f"{self.path_of(port)}/{device.at}"

    def network(self, path: Path, server: bool) -> list:
        """A network with another machine, whose two ends meet at a socket; the server's has to be there first."""
        kind = f"stream,id=pair,server={'on' if server else 'off'},addr.type=unix,addr.path={path}"
        return ["-netdev", kind, "-device", "virtio-net-pci,netdev=pair,addr=0x1b"]

    def command(self, kernel: Path, initrd: Path, shares: dict, append: str, serial: list) -> list:
        """The QEMU command line. `shares` maps a mount tag to (folder, writable)."""
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35,kernel-irqchip=split",
            "-cpu", CPU, "-smp", str(self.cpus), "-m", f"{self.memory_mib}M",
            "-device", "intel-iommu,intremap=on" + (",snoop-control=on" if self.coherent else ""),
            "-display", "none", "-nodefaults", "-no-reboot", "-no-user-config", "-name", "lab,debug-threads=on",
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{append} {self.append}".strip(),
        ]
        command += serial
        for slot, (tag, (folder, writable)) in enumerate(shares.items(), SHARES_FIRST_SLOT):
            mode = "" if writable else ",readonly=on"
            command += [
                "-fsdev", f"local,id={tag},path={folder},security_model=none,multidevs=remap{mode}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot:#x}",
            ]
        command += self.before
        for port in self.ports:
            number = self.ports.index(port) + 1
            command += ["-device", f"{port.line},id={port.id},bus={port.bus or 'pcie.0'},addr={port.at}{port.numbers(number)}"]
        for disk in self.disks:
            image = shares["out"][0] / f"{disk.id}.img"
            command += ["-drive", f"file={image},if=none,id={disk.id},format=raw,cache=unsafe"]
        for device in self.devices:
            command += ["-device", f"{device.line},bus={device.bus or 'pcie.0'},addr={device.at}"]
        return command + [word.replace("$OUT", str(shares["out"][0])) for word in self.extra]
