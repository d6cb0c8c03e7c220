# SPDX-License-Identifier: MIT
"""Twelve kinds of PCI devices, each alone and then all together, driven by the guest's own drivers; a table of results."""
from labkit import *
from dataclasses import dataclass
import struct

MIB = 1 << 20
READ_BYTES = MIB
WRITE_BYTES = MIB // 2


@dataclass
class Kind:
    """A kind of device: QEMU's line for it, what it shows (a disk, a network, ...), and its driver's kind of interrupt."""

    name: str
    line: str
    test: str
    interrupt: str
    behind: str = ""  # for a disk: QEMU's line of what hangs on the controller
    port: bool = False  # below a root port

    def extra(self) -> list:
        if self.test == "network":
            return ["-netdev", f"user,id={self.name},net=10.0.{KINDS.index(self)}.0/24,restrict=on,tftp=$OUT"]
        return ["-device", f"{self.behind},drive={self.name}"] if self.behind else []


KINDS = [
    Kind("nvme", "nvme,serial=tenon,drive=nvme", "disk", "msix"),
    Kind("ahci", "ich9-ahci,id=ahci", "disk", "msi", "ide-hd,bus=ahci.0"),
    Kind("megasas", "megasas-gen2,id=megasas", "disk", "msix", "scsi-hd,bus=megasas.0", port=True),
    Kind("xhci", "qemu-xhci,id=xhci", "disk", "msix", "usb-storage,bus=xhci.0", port=True),
    Kind("ehci", "usb-ehci,id=ehci", "disk", "intx", "usb-storage,bus=ehci.0"),
    Kind("sdhci", "sdhci-pci,id=sdhci", "disk", "intx", "sd-card,bus=sd-bus"),
    Kind("e1000e", "e1000e,netdev=e1000e", "network", "msix"),
    Kind("vmxnet3", "vmxnet3,netdev=vmxnet3", "network", "msix", port=True),
    Kind("e1000", "e1000,netdev=e1000", "network", "intx"),
    Kind("rtl8139", "rtl8139,netdev=rtl8139", "network", "intx"),
    Kind("pcnet", "pcnet,netdev=pcnet", "network", "intx"),
    Kind("tulip", "tulip,netdev=tulip", "network", "intx"),
]
DISKS = [kind for kind in KINDS if kind.test == "disk"]

machine = Machine(
    memory_mib=2048,
    disks=[Disk(kind.name, size_mib=4) for kind in DISKS] + [Disk("served", size_mib=1)],
    devices=[Device(kind.name, kind.line, bus=f"port-{kind.name}" if kind.port else "", at="00.0" if kind.port else f"{slot:02x}.0")
             for slot, kind in enumerate(KINDS, 2)],
    ports=[RootPort(f"port-{kind.name}", at=f"{slot:02x}.0") for slot, kind in enumerate(KINDS, 2) if kind.port],
    extra=[word for kind in KINDS for word in kind.extra()],
)
timeout = 600
programs = ["blockio"]
more_modules = ["nvme", "ahci", "megaraid_sas", "xhci-pci", "ehci-pci", "usb-storage", "sd_mod", "sdhci-pci", "mmc_block",
                "e1000e", "vmxnet3", "e1000", "8139cp", "pcnet32", "tulip"]


def judge(run):
    interfaces = ("iommufd", "container") if run.scenario.host_kernel == "lab" else ("auto",)
    turns = [(interface, vm) for interface in interfaces for vm in ("alone", "together")]
    rows = [judge_device(run, kind, turn, interface, vm) for turn, (interface, vm) in enumerate(turns) for kind in KINDS]
    header = ("device", "interface", "in the VM", "driver", "interrupt", "count", "proof", "verdict")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    table = "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n" for row in [header, *rows])
    (run.folder / "table").write_text(table)
    print(table, end="", flush=True)
    for row in rows:
        run.expect(row[-1] == "ok", f"{row[0]} {row[2]} by {row[1]}: {row[-1]}")


def judge_device(run, kind, turn, interface, vm) -> tuple:
    """A row of the table."""
    guest = run.guest(f"{interface}.{kind.name if vm == 'alone' else 'all'}")
    said = {name.removeprefix(f"{kind.name}."): value for name, value in guest.facts.items() if name.startswith(f"{kind.name}.")}
    proof, wrong = "", ""
    if kind.test == "disk":
        proof, wrong = "read 1 MiB, wrote 512 KiB, both by checksum", judge_disk(run, kind, turn, said)
    elif kind.test == "network":
        proof = "5 pings, 1 MiB by TFTP, by checksum"
        if said.get("received") != run.sha256(run.original("served")):
            wrong = f"received {said.get('received')}"
    if int(said.get("count", 0)) < 5:
        wrong = f"{said.get('count', 0)} interrupts"
    if said.get("interrupt") != kind.interrupt:
        wrong = f"interrupt kind {said.get('interrupt')}, not {kind.interrupt}"
    wrong = said.get("wrong", wrong)
    if not said:
        wrong = (run.text(f"{guest.name}.err").strip().splitlines() or ["the guest said nothing of it"])[-1]
    return (kind.name, interface, vm, said.get("driver", ""), said.get("interrupt", ""), said.get("count", ""), proof,
            wrong or "ok")


def judge_disk(run, kind, turn, said) -> str:
    if said.get("read") != run.sha256(run.original(kind.name)[:READ_BYTES]):
        return f"read {said.get('read')}"
    offset = READ_BYTES + turn * WRITE_BYTES
    wanted = struct.pack(f"<{WRITE_BYTES // 8}Q", *(at ^ (turn + 1) << 32 for at in range(offset, offset + WRITE_BYTES, 8)))
    with open(run.disk(kind.name), "rb") as image:
        image.seek(offset)
        return "" if image.read(WRITE_BYTES) == wanted else "the disk does not hold what was written"
