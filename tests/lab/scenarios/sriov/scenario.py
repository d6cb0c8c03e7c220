# SPDX-License-Identifier: MIT
"""A PF in one VM and its two VFs in two others at once, by a VF token; no guest ever sees the SR-IOV capability."""
from labkit import *

KIB = 1 << 10
timeout = 420
machine = Machine(
    disks=[Disk("disk", size_mib=8)],
    devices=[Device("pf", "nvme,id=pf,serial=tenon,subsys=subsys,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2,"
                          "max_ioqpairs=6,msix_qsize=6", bus="port1", at="00.0")],
    ports=[RootPort("port1", at="08.0")],
    before=["-device", "nvme-subsys,id=subsys,nqn=subsys"],
    extra=["-device", "nvme-ns,drive=disk,bus=pf,nsid=1,shared=on"],
)
programs = ["blockio", "nvme_virt"]
modules = ["nvme-core", "nvme"]
GUESTS = ("pf", "vf1", "vf2")


def judge(run):
    for name in GUESTS:
        guest = run.expect_guest(name)
        run.expect_equal(f"SR-IOV in {name}", guest.facts.get("sriov"), "hidden")
        run.expect_equal(f"what {name} read", guest.facts.get("sha256"),
                         run.sha256(run.original("disk")[4096 * KIB:6144 * KIB]))
    # Each VF's guest found the other's mark on the disk that they share, and left only after that: they ran at once.
    for name, other in (("vf1", "vf2"), ("vf2", "vf1")):
        run.expect_equal(f"the mark that {name} found", run.guest(name).facts.get("other"), other)
    run.expect_equal("what the PF's guest found", run.guest("pf").facts.get("marks"), "vf1 vf2")

    for fact, wanted in (("refused.create", "1"), ("refused.no-token", "1"), ("refused.wrong-token", "1"),
                         ("refused.destroy", "1"), ("vfs", "2"), ("vfs.left", "0"), ("vf.drivers", "vfio-pci vfio-pci")):
        run.expect_fact(fact, wanted)
    for name, words in (("create", "echo Y > /sys/module/vfio_pci/parameters/enable_sriov"), ("no-token", "vf-token=UUID"),
                        ("wrong-token", "token"), ("destroy", "is in use: process")):
        said = run.text(f"refused.{name}")
        run.expect(words in said and said.count("\n") == 1, f"the refusal of {name} does not say {words}: {said}")
    run.expect("Whoever owns a PF can read and change what goes through its" in run.text("create"),
               f"vf create does not speak of trust: {run.text('create')}")
