#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of labkit. The judge must fail what is wrong: each test gives it the folder of a run with one thing amiss."""
import sys

sys.dont_write_bytecode = True

from pathlib import Path
import tempfile
import unittest

from labkit import Device, Disk, Machine, modules
from labkit.judge import Failed, Run, Stopped

GOOD = {
    "facts": "guest.status=0\nhost.status=0\nreleased.processes=\nreleased.files=\nreleased.nvme=ok\n",
    "host.log": "[    0.000000] Linux version 6.12\n[    1.0] Command line: rcupdate.rcu_cpu_stall_timeout=120\n",
    "guest.serial": "@sha256=abc\r\n@dmesg <3>kvm_amd: SVM not supported by CPU 0\r\n@done=1\r\n",
}


class JudgeTest(unittest.TestCase):
    def judge(self, **changed):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**GOOD, **{key.replace("_", "."): text for key, text in changed.items()}}.items():
                (Path(folder) / name).write_text(text)
            run = Run(Path(folder), None, Machine(devices=[Device("nvme", "nvme", at="04.0")]))
            run.expect_clean_host()
            guest = run.expect_guest()
            run.expect_healthy_kernel(guest)
            run.expect_released()
            return guest

    def assert_fails(self, reason, **changed):
        with self.assertRaisesRegex(Failed, reason):
            self.judge(**changed)

    def test_a_good_run_passes_and_its_facts_are_read(self):
        self.assertEqual(self.judge().facts["sha256"], "abc")

    def test_trouble_in_the_hosts_kernel_log_fails(self):
        for line in ("WARNING: CPU: 0 PID: 1 at drivers/iommu/iommu.c:5", "BUG: kernel NULL pointer dereference",
                     "DMAR: [DMA Read NO_PASID] Request device [00:04.0] fault addr 0x1000", " Call Trace:",
                     "INFO: task tenon:70 blocked for more than 120 seconds.", "Oops: 0000 [#1] SMP",
                     "irq 16: nobody cared (try booting with the \"irqpoll\" option)",
                     "rcu: INFO: rcu_sched self-detected stall on CPU"):
            self.assert_fails("host's kernel logged", host_log=GOOD["host.log"] + f"[    9.0] {line}\n")

    def test_a_double_fault_of_the_host_is_worth_a_second_run(self):
        with self.assertRaises(Stopped):
            self.judge(host_log="[   45.9] BUG: IRQ stack guard page was hit at 000000009b17f87c (stack is 0..1)\n")

    def test_a_guest_that_died_fails(self):
        self.assert_fails("kernel died", guest_serial="Kernel panic - not syncing: no init\n")

    def test_a_guest_that_did_not_finish_fails(self):
        self.assert_fails("did not reach its end", guest_serial="@sha256=abc\n")

    def test_a_guest_that_complains_fails(self):
        self.assert_fails("no /dev/nvme0n1", guest_serial="@failed=no /dev/nvme0n1 after 30 s\n@done=1\n")

    def test_a_warning_of_the_guests_kernel_fails(self):
        self.assert_fails("ACPI BIOS Error", guest_serial="@dmesg <3>ACPI BIOS Error (bug): \\_SB.PCI0\n@done=1\n")

    def test_another_exit_status_fails(self):
        self.assert_fails("ended with status 1", facts=GOOD["facts"].replace("guest.status=0", "guest.status=1"))

    def test_a_triple_fault_is_worth_a_second_run_and_another_crash_is_not(self):
        crashed = GOOD["facts"].replace("guest.status=0", "guest.status=4")
        with self.assertRaisesRegex(Stopped, "status 4: .*triple fault"):
            self.judge(facts=crashed, guest_err="tenon: warning: the guest crashed: triple fault; its last console lines say why\nstats: total=1\n")
        with self.assertRaises(Failed) as other:
            self.judge(facts=crashed, guest_err="tenon: warning: the guest crashed: an instruction that KVM cannot emulate")
        self.assertNotIsInstance(other.exception, Stopped)

    def test_a_triple_fault_in_any_vm_explains_what_else_went_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "facts").write_text("pf.status=4\nvf.status=0\n")
            (Path(folder) / "pf.err").write_text("tenon: warning: the guest crashed: triple fault; its last console lines say why\n")
            with self.assertRaisesRegex(Stopped, "pf: .*triple fault"):
                Run(Path(folder), None, Machine()).expect_no_crash()
            (Path(folder) / "facts").write_text("pf.status=0\nvf.status=4\n")
            Run(Path(folder), None, Machine()).expect_no_crash()

    def test_a_vm_that_ran_into_its_time_limit_fails(self):
        self.assert_fails("did not end in time", facts=GOOD["facts"].replace("guest.status=0", "guest.status=124"))

    def test_what_is_left_behind_fails(self):
        for wrong in ("released.processes=77 tenon", "released.files=77/fd/9 -> /dev/vfio/devices/vfio0",
                      "released.nvme=bind: Device or resource busy"):
            name = wrong.split("=")[0]
            facts = "".join(f"{wrong}\n" if line.startswith(name) else f"{line}\n" for line in GOOD["facts"].splitlines())
            self.assert_fails(name, facts=facts)


class DiskTest(unittest.TestCase):
    def test_an_image_holds_what_the_judge_expects(self):
        with tempfile.TemporaryDirectory() as folder:
            disk = Disk("some", size_mib=2)
            self.assertEqual(disk.make(Path(folder)).read_bytes(), disk.original())


class ModulesTest(unittest.TestCase):
    def write_modules(self, folder):
        for name, needed in {"ahci": "libahci,libata", "libahci": "libata", "libata": "scsi_mod", "scsi_mod": "",
                             "usb-storage": "usbcore,scsi_mod", "usbcore": "usb-common", "usb-common": ""}.items():
            (folder / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + needed.encode() + b"\0retpoline=Y\0")
        return list(folder.glob("*.ko"))

    def load_order(self, *names):
        with tempfile.TemporaryDirectory() as folder:
            self.write_modules(Path(folder))
            return [path.stem for path in modules.with_dependencies(Path(folder), names)]

    def test_what_a_module_needs_comes_before_it(self):
        self.assertEqual(self.load_order("ahci"), ["scsi_mod", "libata", "libahci", "ahci"])

    def test_what_two_modules_need_comes_once(self):
        self.assertEqual(self.load_order("ahci", "usb-storage")[4:], ["usb-common", "usbcore", "usb-storage"])

    def test_modprobe_finds_what_a_module_needs(self):
        with tempfile.TemporaryDirectory() as folder:
            files = self.write_modules(Path(folder))
            self.assertIn("ahci.ko: libahci.ko libata.ko scsi_mod.ko\n", modules.dependency_list(Path(folder), files))

    def test_a_name_is_the_same_with_underscores(self):
        self.assertEqual(self.load_order("usb_common"), ["usb-common"])

    def test_a_module_that_is_not_there_is_named(self):
        with self.assertRaisesRegex(LookupError, "no kernel module floppy"):
            self.load_order("floppy")


if __name__ == "__main__":
    unittest.main()
