# SPDX-License-Identifier: MIT
"""What a run needs and does not bring: the kernels, and the small static programs of host and guest."""
from dataclasses import dataclass
from pathlib import Path
import functools
import lzma
import os
import shutil
import struct
import subprocess
import tempfile

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


@dataclass
class HostKernel:
    """A kernel of the emulated host: what QEMU boots, where its modules are, and which it needs to be a host at all."""

    image: Path
    modules: Path
    boot_modules: tuple = ()
    append: str = ""


def host_kernel(name: str) -> HostKernel:
    if name == "lab":
        return HostKernel(kernel() / "bzImage", kernel() / "modules")
    if name == "debian":
        folder = _debian_kernel()
        return HostKernel(
            folder / "vmlinux", folder / "lib" / "modules",
            ("virtio_pci", "9pnet_virtio", "9p", "kvm_amd", "vfio_pci", "vfio_iommu_type1"),
            # It distrusts the TSC of AMD's older CPUs with more than one core; guests' timers would be slow.
            "tsc=reliable nokaslr mitigations=off")
    raise LookupError(f"no host kernel {name}; there are lab and debian")


def _debian_kernel() -> Path:
    """Debian's stock kernel, unpacked into the cache but not installed: vmlinux and lib/modules/."""
    shown = subprocess.run(["apt-cache", "show", "--no-all-versions", "linux-image-amd64"], stdout=subprocess.PIPE, text=True)
    depends = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("Depends: linux-image-")]
    if not depends:
        raise RuntimeError("apt knows no package linux-image-amd64; apt-get update, on Debian")
    package = depends[0]
    cache = Path(os.environ.get("TENON_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenon")
    folder = cache / f"debian-kernel-{package.removeprefix('linux-image-')}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="download.") as scratch:
        done = subprocess.run(["apt-get", "download", "-qq", package], cwd=scratch, stderr=subprocess.PIPE, text=True)
        archives = list(Path(scratch).glob("*.deb"))
        if done.returncode or not archives:
            raise RuntimeError(f"apt-get download {package} failed; apt-get update may help: {done.stderr.strip()}")
        unpacked = Path(scratch) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", archives[0], unpacked], check=True)
        (unpacked / "vmlinux").write_bytes(_uncompressed(next((unpacked / "boot").glob("vmlinuz-*")).read_bytes()))
        for unused in ("boot", "usr"):
            shutil.rmtree(unpacked / unused)
        try:
            unpacked.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    return folder


def _uncompressed(image: bytes) -> bytes:
    """The vmlinux in a bzImage that is compressed with xz: under emulation the kernel would take 20 s to do that itself."""
    setup_sectors = image[0x1F1] or 4
    offset, size = struct.unpack_from("<II", image, 0x248)  # payload_offset, payload_length of the Linux boot protocol
    start = (setup_sectors + 1) * 512 + offset
    return lzma.LZMADecompressor().decompress(image[start:start + size])


def program(source: Path) -> Path:
    """Compiles one C file into a static program, unless that is done already. One that includes <tenon/...> gets the library,
    and one that includes <tenon-migration/...> libtenon-migration, too."""
    folder = build_folder() / "programs"
    folder.mkdir(exist_ok=True)
    target = folder / f"{source.parent.name}-{source.stem}" / source.stem
    headers = kernel() / "include"
    library = TREE / "passthrough"
    sources, options = [source], []
    if "#include <tenon/" in source.read_text():
        sources += sorted(library.glob("*.c"))
        options = ["-Wno-missing-field-initializers", "-I", library / "include", '-DTENON_VERSION="lab"']
    if "#include <tenon-migration/" in source.read_text():
        sources += sorted((TREE / "migration").glob("*.c"))
        options += ["-I", TREE / "migration" / "include"]
    newest = max(path.stat().st_mtime for path in (*sources, *LAB.glob("*/*.h"), TREE / "tests" / "testdev" / "registers.h",
                                                   *library.glob("**/*.h"), *(TREE / "migration").glob("**/*.h"), headers / "linux" / "vfio.h"))
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    subprocess.run(
        ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-static", "-s",
         *options, "-I", headers, "-o", unfinished,
         *sources, "-lpthread"], check=True)
    unfinished.rename(target)
    return target


def embedder(name: str, folder: Path):
    """Builds tests/embed/NAME.c as a stranger would, on what `cmake --install` leaves, which goes to folder/installed."""
    installed = folder / "installed"
    tree_build = os.environ.get("TENON_BUILD", TREE / "build")
    subprocess.run(["cmake", "--install", tree_build, "--prefix", installed], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["make", "-s", "-C", TREE / "tests" / "embed", f"PKG_CONFIG_PATH={installed}/lib/pkgconfig", f"OUT={folder}/bin",
         "LDFLAGS=-Wl,-rpath,/run/lab/out/installed/lib", folder / "bin" / name], check=True)


@functools.cache
def tsc_khz() -> int:
    """The rate of this machine's time stamp counter, which the emulated host sees.

    The host would measure it itself, badly under load; KVM then holds on to a rate that the kernel corrects a second later,
    and guests' timers stop firing.
    """
    return int(subprocess.run([program(LAB / "host" / "tsc_khz.c")], stdout=subprocess.PIPE, check=True).stdout)
