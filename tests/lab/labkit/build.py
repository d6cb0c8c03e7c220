# SPDX-License-Identifier: MIT
"""What a run needs and does not bring: the kernel, and the small static programs of host and guest."""
from pathlib import Path
import functools
import os
import subprocess

LAB = Path(__file__).resolve().parent.parent
TREE = LAB.parent.parent


def build_folder() -> Path:
    folder = Path(os.environ.get("TENON_BUILD", TREE / "build")) / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kernel() -> Path:
    """The folder with bzImage, vmlinux, modules/ and include/; built on first use, with progress on stderr."""
    given = os.environ.get("TENON_LAB_KERNEL")
    if given:
        return Path(given)
    done = subprocess.run([LAB / "kernel" / "build"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError("the lab's kernel can not be built; see above")
    return Path(done.stdout.strip().splitlines()[-1])


def program(source: Path) -> Path:
    """Compiles one C file into a static program, unless that is done already."""
    folder = build_folder() / "programs"
    folder.mkdir(exist_ok=True)
    target = folder / f"{source.parent.name}-{source.stem}" / source.stem
    headers = kernel() / "include"
    newest = max(path.stat().st_mtime for path in (source, *source.parent.glob("*.h"), headers / "linux" / "vfio.h"))
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    subprocess.run(
        ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static", "-s", "-I", headers, "-o", unfinished, source,
         "-lpthread"], check=True)
    unfinished.rename(target)
    return target


@functools.cache
def tsc_khz() -> int:
    """The rate of this machine's time stamp counter, which the emulated host sees.

    The host would measure it itself, badly under load; KVM then holds on to a rate that the kernel corrects a second later,
    and guests' timers stop firing.
    """
    return int(subprocess.run([program(LAB / "host" / "tsc_khz.c")], stdout=subprocess.PIPE, check=True).stdout)
