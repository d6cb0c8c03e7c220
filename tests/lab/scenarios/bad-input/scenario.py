# SPDX-License-Identifier: MIT
"""Wrong uses: each is one line that names the cause and the fix, exit status 1 or 2, and nothing left behind."""
from labkit import *
import re

machine = Machine(
    disks=[Disk("disk", size_mib=8), Disk("other", size_mib=8)],
    devices=[
        Device("nvme", "nvme,serial=tenon,drive=disk", at="04.0"),
        Device("idle", "edu", at="05.0", bind=""),
        Device("stub", "edu", at="06.0", bind="pci-stub"),
        # What is below a root port without ACS is one IOMMU group.
        Device("shared", "nvme,serial=shared,drive=other,multifunction=on", bus="port1", at="00.0"),
        Device("nic", "e1000e", bus="port1", at="00.1", bind=""),
    ],
    ports=[RootPort("port1", at="08.0")],
    coherent=True,  # else each device that opens is a line of its own
)


def judge(run):
    cases = sorted(path.stem for path in (run.folder / "cases").glob("*.status"))
    run.expect(len(cases) >= 25, f"only {len(cases)} cases ran")
    wrong = [f"{name}: {reason}" for name in cases for reason in [judge_case(run, name)] if reason]
    (run.folder / "cases.wrong").write_text("\n".join(wrong) + "\n")
    run.expect(not wrong, f"{len(wrong)} of {len(cases)} cases (all in cases.wrong): {wrong[0] if wrong else ''}")


def judge_case(run, name):
    """The reason why a case went wrong, or None."""
    status = run.text(f"cases/{name}.status").strip()
    said = run.text(f"cases/{name}.err")
    wanted = run.text(f"cases/{name}.wanted").strip()
    left = run.text(f"cases/{name}.left").strip()
    if status not in ("1", "2"):
        return f"status {status}: {said.strip()[:300]}"
    if said.count("\n") != 1 or not said.endswith("\n"):
        return f"{said.count(chr(10))} lines on stderr, not 1: {said[:300]!r}"
    if not re.search(wanted, said, re.IGNORECASE):
        return f"the line does not say /{wanted}/: {said.strip()}"
    if "; " not in said:
        return f"the line gives no fix after '; ': {said.strip()}"
    return f"left behind: {left}" if left else None
