# SPDX-License-Identifier: MIT
"""The host's commands say what the kernel and lspci say, move devices between drivers, and refuse what is in use."""
from labkit import *
import json
import re

machine = Machine(
    disks=[Disk("disk", size_mib=16, content="zero"), Disk("other", size_mib=8)],
    devices=[
        Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0", bind=""),
        Device("edu", "edu", at="05.0", bind=""),
        Device("first", "nvme,serial=first,drive=other,multifunction=on", bus="port1", at="00.0", bind=""),
        Device("nic", "e1000e", bus="port1", at="00.1", bind=""),
        Device("pf", "nvme,serial=pf,subsys=subsys,sriov_max_vfs=4,sriov_vq_flexible=8,"
                     "sriov_vi_flexible=4,max_ioqpairs=12,msix_qsize=12", bus="port2", at="00.0", bind=""),
    ],
    ports=[RootPort("port1", at="08.0"), RootPort("port2", at="09.0")],
    before=["-device", "nvme-subsys,id=subsys,nqn=subsys"],
)


def judge(run):
    devices = {device["address"]: device for device in json.loads(run.text("devices.json"))}
    expect_same_as_kernel(run, devices)
    expect_same_as_lspci(run, devices)
    expect_verdicts(run, devices)
    expect_groups(run, devices)
    expect_topology(run, devices)
    for case in sorted(run.folder.glob("case.*.wanted")):
        judge_case(run, case.name.split(".")[1])
    for fact, wanted in (("bound", "vfio-pci"), ("untouched", "nvme"), ("vfs", "2"), ("vf.drivers", ""), ("autoprobe", "1"),
                         ("vfs.left", "0"), ("notes", ""), ("doctor.status", "0")):
        run.expect_fact(fact, wanted)
    run.expect(run.facts.get("doctor.problems") == "0", f"doctor finds problems: {run.text('doctor')}")


def judge_case(run, name):
    """A command with the status and the words that were wanted."""
    status, wanted = run.text(f"case.{name}.wanted").rstrip("\n").split(" ", 1)
    said = run.text(f"case.{name}.said").strip()
    run.expect_equal(f"the status of {name} ({said})", run.text(f"case.{name}.status").strip(), status)
    run.expect(re.search(wanted, said, re.DOTALL), f"{name} does not say /{wanted}/: {said}")


def expect_same_as_kernel(run, devices):
    lines = [line.split("|") for line in run.text("sysfs").splitlines()]
    run.expect_equal("the devices listed", sorted(devices), sorted(line[0] for line in lines))
    for address, driver, group, methods, vfs_total in lines:
        device = devices[address]
        run.expect_equal(f"{address}'s driver", device["driver"] or "", driver)
        run.expect_equal(f"{address}'s group", str(device["iommu_group"]), group or "None")
        run.expect_equal(f"{address}'s reset methods", " ".join(device["reset"]["methods"] or []), methods)
        run.expect_equal(f"{address}'s VFs", str(device["sriov"]["vfs_total"]), vfs_total or "0")


def expect_same_as_lspci(run, devices):
    """lspci -vmmnn for names, -vv for BAR sizes and MSI-X."""
    for block in run.text("lspci.names").strip().split("\n\n"):
        fields = dict(line.split(":\t", 1) for line in block.splitlines())
        device = devices[fields["Slot"]]
        for key, field, number in (("class_name", "Class", device["class"][:4]), ("vendor_name", "Vendor", device["vendor"]),
                                   ("device_name", "Device", device["device"])):
            name, listed = re.match(r"(.*) \[([0-9a-f]{4})\]$", fields[field]).groups()
            run.expect_equal(f"{fields['Slot']}'s {field} number", number, listed)
            if name not in ("Vendor", "Device"):  # lspci's words for one without a name
                run.expect_equal(f"{fields['Slot']}'s {field}", re.sub(r" \[[0-9a-f]{4}\]$", "", device[key]), name)
    for block in run.text("lspci.details").strip().split("\n\n"):
        device = devices[block.split()[0]]
        found = re.search(r"MSI-X: Enable. Count=(\d+)", block)
        run.expect_equal(f"{device['address']}'s MSI-X vectors", device["msix_vectors"], int(found.group(1)) if found else 0)
        sizes = [size for size in re.findall(r"Region \d: (?:Memory|I/O ports) at .*\[size=(\w+)\]", block)]
        run.expect_equal(f"{device['address']}'s BARs", [spell(bar["bytes"]) for bar in device["bars"]], sizes)


def spell(size):
    """A size as lspci writes it."""
    for unit in ("", "K", "M", "G"):
        if size % 1024 or not size:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def expect_verdicts(run, devices):
    address = {name: bdf for name, bdf in (line.split()[:2] for line in run.text("devices").splitlines())}
    run.expect_equal("the NVMe's verdict", devices[address["nvme"]]["assign"]["verdict"], "after-bind")
    run.expect_equal("what to do for the NVMe", devices[address["nvme"]]["assign"]["do"], f"tenon bind {address['nvme']}")
    first = devices[address["first"]]
    run.expect_equal("the shared NVMe's verdict", first["assign"]["verdict"], "no")
    run.expect_equal("its reason", first["assign"]["because"],
                     f"it shares IOMMU group {first['iommu_group']} with {address['nic']} (driver e1000e), which the host uses")
    run.expect_equal("its reset group", first["reset"]["with"], [address["nic"]])
    run.expect_equal("the port's verdict", devices["0000:00:08.0"]["assign"]["verdict"], "never")
    run.expect_equal("the PF's role", devices[address["pf"]]["sriov"]["role"], "PF")
    run.expect_equal("coherency", {d["coherent"] for d in devices.values() if d["iommu"]}, {False})


def expect_groups(run, devices):
    wanted = {}
    for device in devices.values():
        wanted.setdefault(device["iommu_group"], []).append(device["address"])
    found = {group["group"]: [member["address"] for member in group["members"]] for group in json.loads(run.text("groups.json"))}
    run.expect_equal("the groups", found, {group: sorted(members) for group, members in wanted.items() if group is not None})


def expect_topology(run, devices):
    def walk(level, above, places):
        for device in level:
            places[device["address"]] = above
            walk(device["below"], device["address"], places)
        return places
    roots = json.loads(run.text("topology.json"))
    places = walk(roots[0]["devices"], "", {})
    wanted = dict(line.split("|") for line in run.text("above").splitlines())
    run.expect_equal("the tree", places, wanted)
    graph = run.text("topology.dot")
    run.expect(graph.startswith("digraph") and all(f'"{address}"' in graph for address in devices), "the graph lacks devices")
