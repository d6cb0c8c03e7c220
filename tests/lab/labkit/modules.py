# SPDX-License-Identifier: MIT
"""Kernel modules: which ones a name needs, in the order in which they load."""
from pathlib import Path
import functools
import re


def _canonical(name: str) -> str:
    return name.replace("-", "_")


@functools.cache
def _files(folder: Path) -> dict:
    return {_canonical(path.stem): path for path in folder.rglob("*.ko")}


@functools.cache
def _depends(path: Path) -> tuple:
    """What the module itself says in its .modinfo section, as `modinfo -F depends` would print it."""
    found = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    return tuple(name for name in (found.group(1).decode() if found else "").split(",") if name)


def with_dependencies(folder: Path, names) -> list:
    """The files of these modules and of all that they need, each once, each after what it needs."""
    files = _files(folder)
    ordered = []

    def add(name):
        if _canonical(name) not in files:
            raise LookupError(f"no kernel module {name} in {folder}; it is spelt differently, built in, or not built")
        path = files[_canonical(name)]
        if path in ordered:
            return
        for needed in _depends(path):
            add(needed)
        ordered.append(path)

    for name in names:
        add(name)
    return ordered


def dependency_list(folder: Path, files: list) -> str:
    """modules.dep, as depmod would write it for these files of the folder: what modprobe reads."""
    lines = []
    for file in files:
        *needed, _ = with_dependencies(folder, [file.stem])
        lines.append(f"{file.name}:{''.join(f' {path.name}' for path in reversed(needed))}\n")
    return "".join(lines)
