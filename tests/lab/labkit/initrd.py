# SPDX-License-Identifier: MIT
"""Initial RAM disks: the emulated host's, which only finds the machine's own root, and the guests'."""
from pathlib import Path
import re
import shutil
import stat
import subprocess

from . import modules


class Archive:
    """A cpio archive of the "newc" kind, uncompressed: under emulation that boots faster than a small one."""

    def __init__(self):
        self.parts = []
        self.folders = set()

    def _entry(self, name: str, mode: int, data: bytes):
        name_bytes = name.encode() + b"\0"
        fields = [len(self.parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name_bytes), 0]
        header = b"070701" + b"".join(b"%08x" % value for value in fields)
        self.parts.append(_padded(header + name_bytes) + _padded(data))

    def folder(self, name: str):
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            if path and path not in self.folders:
                self.folders.add(path)
                self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, executable: bool = False):
        if "/" in name:
            self.folder(name.rsplit("/", 1)[0])
        self._entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def link(self, name: str, target: str):
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def write(self, path: Path):
        self._entry("TRAILER!!!", 0, b"")
        path.write_bytes(b"".join(self.parts))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _busybox(archive: Archive):
    found = shutil.which("busybox")
    if not found:
        raise FileNotFoundError("busybox is missing; apt-get install busybox-static")
    archive.file("bin/busybox", Path(found).read_bytes(), executable=True)
    archive.link("bin/sh", "busybox")
    for folder in ("proc", "sys", "dev", "tmp", "run"):
        archive.folder(folder)


def _modules(archive: Archive, load: list, folder: Path, more: list = ()):
    """In /modules: `load` with all they need and their names in "load", and `more`, for modprobe."""
    files = modules.with_dependencies(folder, (*load, *more))
    archive.folder("modules")
    for file in files:
        archive.file(f"modules/{file.name}", file.read_bytes())
    archive.file("modules/modules.dep", modules.dependency_list(folder, files).encode())
    archive.file("modules/load", " ".join(load).encode())


def _tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is missing; install what packages.txt names")
    return found


def _libraries(program: str) -> list:
    """Paths of the shared libraries and the loader of a program, as the loader would find them."""
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def make_host(path: Path, init: Path, kernel_modules: Path, load: list):
    archive = Archive()
    archive.folder("root")
    _busybox(archive)
    archive.file("init", init.read_bytes(), executable=True)
    _modules(archive, load, kernel_modules)
    archive.write(path)


def make_small_guest(path: Path, init: Path):
    """A guest that is one static program."""
    archive = Archive()
    for folder in ("proc", "sys", "dev"):
        archive.folder(folder)
    archive.file("init", init.read_bytes(), executable=True)
    archive.write(path)


def make_guest(path: Path, init: Path, script: Path, programs: list, kernel_modules: Path, load: list, more: list,
               tools: list = ()):
    """A guest that runs `script`; `programs` and `tools` land in /bin, modules of the folder `kernel_modules` in /modules."""
    archive = Archive()
    _busybox(archive)
    archive.file("init", init.read_bytes(), executable=True)
    archive.file("guest.sh", script.read_bytes(), executable=True)
    for program in programs:
        archive.file(f"bin/{program.name}", program.read_bytes(), executable=True)
    for library in {library for tool in tools for library in _libraries(_tool(tool))}:
        archive.file(library.lstrip("/"), Path(library).read_bytes(), executable=True)
    for tool in tools:
        archive.file(f"bin/{tool}", Path(_tool(tool)).read_bytes(), executable=True)
    _modules(archive, load, kernel_modules, more)
    archive.write(path)
