# SPDX-License-Identifier: MIT
"""An SR-IOV PF and a NIC in a guest: chains intact, nothing dangling, every BAR sizes; a minute of fuzzing leaves the host's."""
from labkit import *
import re
import struct

SECONDS = 60
machine = Machine(
    ports=[RootPort("rp", at="05.0")],
    before=["-device", "nvme-subsys,id=subsys,nqn=subsys"],
    disks=[Disk("disk", size_mib=8)],
    devices=[
        Device("pf", "nvme,serial=pf,subsys=subsys,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,"
                     "max_ioqpairs=12,msix_qsize=12", at="00.0", bus="rp"),
        Device("nic", "e1000e", at="06.0"),
    ],
)
programs = ["pcicfg"]
tools = ["lspci"]
timeout = 600

SRIOV, NULL = 0x10, 0x00
COMMAND_ALLOWED = 0x0547  # I/O, memory, master, parity, SERR; DisINTx is the kernel's
STANDARD_BYTES = {0x01: 8, 0x05: None, 0x10: None, 0x11: 12}
EXTENDED_BYTES = {NULL: 4, 0x03: 12, 0x04: 16, 0x0B: None, 0x23: None}


class Space:
    """A guest's view of 4096 bytes, its chains walked."""

    def __init__(self, run, name, text):
        self.bytes = bytes.fromhex(text if re.fullmatch("[0-9a-f]*", text) else "")
        run.expect_equal(f"{name}: bytes of config space", len(self.bytes), 4096)
        self.claimed = bytearray(4096)
        self.claimed[0:0x40] = b"\1" * 0x40
        self.standard, self.extended = [], []
        if self.word(6) & 0x10:
            self._walk(run, name, self.bytes[0x34], self._standard, self.standard)
        if any(self.bytes[0x100:0x104]):
            self._walk(run, name, 0x100, self._extended, self.extended)

    def word(self, at):
        return struct.unpack_from("<H", self.bytes, at)[0]

    def dword(self, at):
        return struct.unpack_from("<I", self.bytes, at)[0]

    def _standard(self, at):
        identity = self.bytes[at]
        flags = self.word(at + 2)
        if identity == 0x05:
            length = 10 + (4 if flags & 0x80 else 0) + (10 if flags & 0x100 else 0)
        elif identity == 0x10:
            length = 0x3C if flags & 0xF >= 2 else 0x14
        else:
            length = STANDARD_BYTES.get(identity)
        return identity, length, self.bytes[at + 1], 0x40

    def _extended(self, at):
        header = self.dword(at)
        identity = header & 0xFFFF
        length = EXTENDED_BYTES.get(identity)
        if identity in (0x0B, 0x23):
            length = self.dword(at + 4) >> 20
        return identity, length, header >> 20, 0x100

    def _walk(self, run, name, at, describe, found):
        while at:
            identity, length, following, lowest = describe(at)
            run.expect(at >= lowest and at % 4 == 0, f"{name}: a chain leads to {at:#x}")
            run.expect(length, f"{name}: capability {identity:#x} at {at:#x} is shown, which nobody knows the length of")
            run.expect(not any(self.claimed[at:at + length]), f"{name}: capability {identity:#x} at {at:#x} overlaps another")
            self.claimed[at:at + length] = b"\1" * length
            found.append((identity, at))
            at = following

    def dangling(self):
        return [at for at in range(4096) if not self.claimed[at] and self.bytes[at]]


def sizes(text):
    return {int(bar): int(size, 16) for bar, size in (word.split(":") for word in text.split())}


def check_hardware(run, name):
    """No sample of the host's config space shows a bit that the policy does not let a guest change."""
    samples = [bytes.fromhex(line) for line in run.text(f"samples.{name}").split()]
    run.expect(len(samples) >= 20, f"{name}: only {len(samples)} samples of the host's view")
    first = samples[0]
    msi = int(run.facts.get(f"{name}.msi", "0") or "0", 16)
    for number, sample in enumerate(samples):
        where = f"{name}: sample {number} of {len(samples)}"
        run.expect_equal(f"{where}: the ids", sample[:4], first[:4])
        run.expect_equal(f"{where}: the BARs", sample[0x10:0x28].hex(), first[0x10:0x28].hex())
        # The kernel switches the ROM on for as long as it reads it.
        run.expect_equal(f"{where}: the ROM's BAR", f"{sample[0x30] & 0xfe:02x}{sample[0x31:0x34].hex()}",
                         f"{first[0x30] & 0xfe:02x}{first[0x31:0x34].hex()}")
        command = struct.unpack_from("<H", sample, 4)[0]
        run.expect(command & ~COMMAND_ALLOWED == 0, f"{where}: command is {command:#06x}")
        run.expect_equal(f"{where}: the interrupt pin", sample[0x3D], first[0x3D])
        if msi:
            address = struct.unpack_from("<Q", sample, msi + 4)[0]
            # With interrupt remapping the kernel writes 0xfee in the remappable format: bit 4.
            run.expect(address == 0 or (address >> 20 == 0xFEE and address & 0x10),
                       f"{where}: the MSI address is {address:#x}, which the host's kernel did not write")


def judge(run):
    attempts = int(run.facts["attempts"])
    for attempt in range(1, attempts):  # the guest's own end, by triple fault or for good; the monitor said so or obeyed
        status = run.facts[f"guest{attempt}.status"]
        run.expect(status in ("4", "124"), f"attempt {attempt}: tenon ended with status {status}")
    guest = run.expect_guest(f"guest{attempts}")
    for name in ("pf", "nic"):
        space = Space(run, name, guest.facts.get(f"{name}.config", ""))
        run.expect(SRIOV not in [identity for identity, _ in space.extended], f"{name}: SR-IOV is in the chain")
        run.expect(len(space.standard) >= 3, f"{name}: only these capabilities: {space.standard}")
        dangling = space.dangling()
        run.expect(not dangling, f"{name}: bytes of no capability are not zero: {[hex(at) for at in dangling[:8]]}")
        run.expect_equal(f"{name}: the sizes of its BARs", sizes(guest.facts.get(f"{name}.sizes", "")),
                         sizes(run.facts[f"{name}.sizes"]))
        run.expect(int(guest.facts.get(f"{name}.writes", "0")) > 2000,
                   f"{name}: {guest.facts.get(f'{name}.writes')} random writes only")
        check_hardware(run, name)

    lspci = guest.text[guest.text.find("@lspci begins"):guest.text.find("@lspci ends")]
    run.expect("Class 0108" in lspci and "Class 0200" in lspci, "the guest's lspci does not show both devices")
    trouble = re.search(r"SR-IOV|Single Root|<chain \w+>|\(rev ff\)", lspci)
    run.expect(not trouble, f"the guest's lspci says: {trouble and trouble.group(0)}")
    run.expect("SR-IOV" in run.text("host.lspci") or "Single Root" in run.text("host.lspci"), "the PF has no SR-IOV on the host")
