# SPDX-License-Identifier: MIT
"""50 times an NVMe with I/O running comes and goes; errors, requests and surprises of the host; another NVMe never notices."""
from labkit import *

HOT, CYCLES = 7, 50

machine = Machine(
    disks=[Disk("stay", 64)] + [Disk(f"hot{i}", 8) for i in range(1, HOT + 1)] + [Disk("gone", 8), Disk("end", 8)],
    ports=[RootPort("net_port", at="10.0"), RootPort("gone_port", at="11.0")],
    devices=[Device("stay", "nvme,serial=stay,drive=stay", at="04.0")]
    + [Device(f"hot{i}", f"nvme,serial=hot{i},drive=hot{i}", at=f"{4 + i:02x}.0") for i in range(1, HOT + 1)]
    + [
        Device("net", "e1000e,mac=52:54:00:12:34:56", at="00.0", bus="net_port"),
        Device("end", "nvme,serial=end,drive=end", at="0f.0"),
        # The host's script binds it: at the end it is not there any more.
        Device("gone", "nvme,serial=gone,drive=gone", at="00.0", bus="gone_port", bind=""),
    ],
    # The host's own hot-plug is native too, not ACPI's.
    extra=["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"],
)
programs = ["blockio"]
host_programs = ["aer_inject"]
modules = ["nvme-core", "nvme", "e1000e"]
timeout = 400
# An error that was injected is reported by the host's kernel with the name of the device's driver.
host_messages = (r"vfio-pci.*(PCIe Bus Error|device \[.*error status/mask|Aborted|CmpltAbrt|AER)",)

# What the guest says of the one device that is pulled from under its driver, after reads were under way.
ALLOWED = (r"nvme nvme[1-9]\d*: ", r"nvme[1-9]\d*n1: .*I/O Error", r"(I/O|Buffer I/O) error.* dev nvme[1-9]\d*n1")


def judge(run):
    guest = run.expect_guest()
    run.expect_fact("cycles", str(CYCLES))
    run.expect_equal("slots that pciehp found", guest.facts.get("slots"), "8")
    for problem in ("refused", "late", "socket.left"):
        run.expect_equal(problem, run.facts.get(problem, ""), "")

    seen, served = (int(guest.facts.get(name, 0)) for name in ("hot.seen", "hot.served"))
    run.expect(seen >= CYCLES, f"the guest saw {seen} devices come, not {CYCLES}")
    run.expect(served >= CYCLES, f"{served} devices served I/O until they left, of {CYCLES}")
    rounds = int(guest.facts.get("stay.rounds", 0))
    run.expect(rounds >= 20, f"the device that stayed served {rounds} rounds of I/O")
    run.expect_equal("errors of the device that stayed", guest.facts.get("stay.errors"), "0")

    # An error of the host: the device is pulled and comes back.
    run.expect_fact("error.injected", "0")
    run.expect_fact("error.returned", "yes")
    # The host takes devices back: by sysfs, and by switching the slot off under it.
    run.expect_fact("request.released", "yes")
    run.expect_fact("surprise.released", "yes")
    run.expect_fact("forced.removed", "yes")
    run.expect_healthy_kernel(guest, ALLOWED)
