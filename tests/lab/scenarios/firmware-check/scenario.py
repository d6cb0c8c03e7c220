# SPDX-License-Identifier: MIT
"""`tenon check` on an NVMe, edu, a NIC that the firmware cannot drive and the test device: all checks pass, DMA and interrupts are real."""
from labkit import *
import json

machine = Machine(
    disks=[Disk("disk", size_mib=64)],
    devices=[Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0"), Device("edu", "edu,dma_mask=0xffffffffff", at="05.0"),
             Device("nic", "e1000e", at="06.0")],
)


def judge(run):
    run.expect_fact("check.status", "0")
    report = json.loads(run.text("check.json"))
    run.expect(report["complete"] and report["failed"] == 0, f"failed: {report['failed']}, complete: {report['complete']}")
    drivers = [device["driver"] for device in report["devices"]]
    run.expect_equal("the drivers", drivers, ["nvme", "edu", None, "testdev"])
    passed = [{check["name"] for check in device["checks"] if check["result"] == "passed"} for device in report["devices"]]
    for device, needed in zip(passed, ({"bar 0", "intx", "msi-x", "dma identify", "flr", "bus reset"}, {"bar 0", "intx", "msi", "dma copy"},
                                       {"config ids", "config capabilities", "msi-x"},
                                       {"intx", "msi", "msi-x", "dma copy", "flr", "bus reset", "contract"})):
        run.expect(needed <= device, f"not passed: {needed - device}")
    run.expect_fact("testdev.status", "0")
    run.expect(run.disk("disk").read_bytes() == run.original("disk"), "the check wrote to the disk")
