# SPDX-License-Identifier: MIT
"""The firmware attacks for 20 seconds, with an NVMe, an edu device and a NIC assigned: the VM ends as it should, the host is unharmed."""
import re

from labkit import *

machine = Machine(
    disks=[Disk("disk", size_mib=16)],
    ports=[RootPort("rp", at="07.0")],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="00.0", bus="rp"), Device("edu", "edu,dma_mask=0xffffffffff", at="05.0"),
             Device("nic", "e1000e", at="06.0")],
)


def judge(run):
    run.expect_fact("attack.status", "0")
    said = run.text("attack.serial")
    found = re.search(r"^ok 1 - hostile: (\d+) attacks", said, re.MULTILINE)
    run.expect(found and int(found.group(1)) > 1000, f"attacks: {found and found.group(1)}")
    run.expect_fact("check.status", "0")
    run.expect(run.disk("disk").read_bytes() == run.original("disk"), "the attack wrote to the disk")
