# SPDX-License-Identifier: MIT
"""Runs a scenario: makes the run's folder, starts the emulated host, follows it to its end, and has it judged."""
from pathlib import Path
import fcntl
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

from . import build, initrd
from .build import LAB
from .judge import Failed, Run, Stopped
from .machine import Machine

# nohz=off highres=off: QEMU's SVM changes its word of pending interrupts without a lock, so now and then an interrupt is lost
# (target/i386/tcg/sysemu/svm_helper.c). With periodic ticks the next tick finds it; with one-shot timers the host would sleep on.
HOST_APPEND = ("console=ttyS0 loglevel=7 printk.time=1 panic=-1 oops=panic intel_iommu=on iommu=pt "
               "nohz=off highres=off rcupdate.rcu_cpu_stall_timeout=120")


class Skipped(Exception):
    """The reason, one line."""


class Scenario:
    """A folder of tests/lab/scenarios: scenario.py, host.sh and, where there is a guest, guest.sh.

    scenario.py's first line of documentation says what the scenario shows. It may set:
    machine        a Machine; needed
    peer           the Machine of a second host, which runs peer.sh; eth0 of both is one network, 10.0.0.1 and 10.0.0.2
    based_on       the name of another scenario, whose settings and files this one has unless it brings its own
    timeout        seconds that the whole run may take
    programs       names of guest programs (tests/lab/guest/NAME.c) that the guest's /bin gets
    tools          programs of this machine's that the guest gets, with the libraries that they load
    host_programs  names of host programs (tests/lab/host/NAME.c) that are on the host script's PATH
    embedders      names of programs (tests/embed/NAME.c), built on the installed library, that are on the host script's PATH
    guest_init     the name of a guest program that is the guest's /init, alone, in place of guest.sh
    modules        kernel modules that the guest loads, in order; what they need is loaded before them
    more_modules   kernel modules that guest.sh may load, with modprobe
    host_kernel    "lab", or "debian": Debian's stock kernel, which has VFIO groups and containers but no iommufd
    host_modules   kernel modules that the host loads beyond those that make it a host
    files          paths below tests/ that the host finds in $OUT
    host_messages  regular expressions of trouble that the scenario makes the host's kernel report
    in_all         False: not part of `run all`
    judge(run)     raises, through run.expect, at the first thing that is wrong
    """

    DEFAULTS = {"timeout": 300, "peer": None, "programs": (), "tools": (), "guest_init": None, "host_programs": (), "embedders": (), "modules": (),
                "more_modules": (), "files": (), "host_messages": (), "host_kernel": "lab", "host_modules": (),
                "in_all": True, "judge": lambda run: None}

    def __init__(self, name: str):
        self.name = name
        module = _load(name)
        base = getattr(module, "based_on", None)
        self.modules_found = [module] + ([_load(base)] if base else [])
        self.about = (module.__doc__ or "").strip().splitlines()[0]
        self.folders = [LAB / "scenarios" / each for each in (name, base) if each]

    def __getattr__(self, setting: str):
        for module in self.modules_found:
            if hasattr(module, setting):
                return getattr(module, setting)
        if setting in self.DEFAULTS:
            return self.DEFAULTS[setting]
        raise AttributeError(f"scenario {self.name} sets no {setting}")

    def file(self, name: str):
        """The scenario's own file of this name, or its base's, or None."""
        return next((folder / name for folder in self.folders if (folder / name).exists()), None)


def _load(name: str):
    source = LAB / "scenarios" / name / "scenario.py"
    if not source.exists():
        raise LookupError(f"no scenario {name}; `lab list` names them")
    spec = importlib.util.spec_from_file_location(f"scenario_{name}", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> list:
    return sorted(path.parent.name for path in (LAB / "scenarios").glob("*/scenario.py"))


def _available_mib() -> int:
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) >> 10 for line in info if line.startswith("MemAvailable"))


PEER = "peer"  # the folder, in that of the run, which the second host sees as $OUT


def prepare(scenario: Scenario, tenon: Path, folder: Path):
    """Fills a new folder with everything that the run reads."""
    kernel = _prepare_host(scenario, scenario.machine, "host.sh", tenon, folder)
    if scenario.peer:
        _prepare_host(scenario, scenario.peer, "peer.sh", tenon, folder / PEER)
    return kernel


def _prepare_host(scenario: Scenario, machine: Machine, script: str, tenon: Path, folder: Path):
    """Fills a new folder, which the host sees as $OUT."""
    kernel = build.kernel()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    shutil.copytree(LAB / "host", folder / "host")
    shutil.copy(tenon, folder / "bin" / "tenon")
    for beside in ("tenon-admin", "tenon-testdev"):
        if (tenon.parent / beside).exists():
            shutil.copy(tenon.parent / beside, folder / "bin")
    firmware = tenon.parent / "firmware" / "tenon-firmware.rom"
    if firmware.exists():
        (folder / "bin" / "firmware").mkdir()
        shutil.copy(firmware, folder / "bin" / "firmware")
    for name in ("vfio_open", *scenario.host_programs):
        shutil.copy(build.program(LAB / "host" / f"{name}.c"), folder / "bin")
    for name in scenario.embedders:
        build.embedder(name, folder)
    for name in scenario.files:
        shutil.copy(LAB.parent / name, folder)
    for name, found in (("host.sh", script), ("guest.sh", "guest.sh")):
        if scenario.file(found):
            shutil.copy(scenario.file(found), folder / name)
    for disk in machine.disks:
        disk.make(folder)
    (folder / "devices.wanted").write_text("".join(
        f"{device.name} {machine.path_of(device)} {device.bind or 'none'}\n" for device in machine.devices))
    host = build.host_kernel(scenario.host_kernel)
    initrd.make_host(folder / "host.cpio", LAB / "host" / "init", host.modules, (*host.boot_modules, *scenario.host_modules))
    if scenario.guest_init:
        initrd.make_small_guest(folder / "guest.cpio", build.program(LAB / "guest" / f"{scenario.guest_init}.c"))
    elif (folder / "guest.sh").exists():
        programs = [build.program(LAB / "guest" / f"{name}.c") for name in scenario.programs]
        initrd.make_guest(folder / "guest.cpio", LAB / "guest" / "init", folder / "guest.sh", programs,
                          kernel / "modules", scenario.modules, scenario.more_modules, scenario.tools)
    (folder / "environment").write_text("".join(
        f"{name}={shlex.quote(value)}\n" for name, value in os.environ.items() if name.startswith("LAB_")))
    (folder / "facts").touch()
    return kernel


class Host:
    """A running emulated host. It dies with this process, however that ends."""

    def __init__(self, scenario: Scenario, kernel: Path, folder: Path, serial: list, append: str = "",
                 interactive: bool = False, peer: bool = False):
        machine = scenario.peer if peer else scenario.machine
        shared = folder.parent if peer else folder  # both of a pair see the same
        shares = {"root": ("/", False), "kernel": (kernel, False), "out": (shared, True)}
        host = build.host_kernel(scenario.host_kernel)
        append = (f"{HOST_APPEND} tsc_early_khz={build.tsc_khz()} {host.append} {append} "
                  f"{os.environ.get('LAB_HOST_APPEND', '')}")
        if scenario.peer:
            append = f"lab_pair={2 if peer else 1} {append}"
        command = machine.command(host.image, folder / "host.cpio", shares, append, serial)
        if scenario.peer:
            command += machine.network(shared / "network", server=not peer)
        (folder / "command").write_text(" ".join(f"'{word}'" if " " in word else word for word in command) + "\n")
        self.errors = open(folder / "qemu.err", "w")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stderr=self.errors,
            stdin=None if interactive else subprocess.DEVNULL)
        self.unpinned = machine.cpus if machine.pinned else 0
        self.folder = folder

    def pin(self):
        """Gives each of the host's CPUs one of this machine's. Does nothing until QEMU has made their threads."""
        usable = sorted(os.sched_getaffinity(0))
        names = {path.parent.name: path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/comm")}
        threads = {name.split()[1].split("/")[0]: int(task) for task, name in names.items() if name.startswith("CPU ")}
        if len(threads) < self.unpinned:
            return
        for number, thread in threads.items():
            os.sched_setaffinity(thread, {usable[int(number) % len(usable)]})
        self.unpinned = 0

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()


def _follow(path: Path, offset: int) -> int:
    """Prints what a file has gained since `offset`."""
    if not path.exists():
        return offset
    with open(path, errors="replace") as report:
        report.seek(offset)
        text = report.read()
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
        return report.tell()


ATTEMPTS = 5  # of a scenario, as long as it is the emulation that ends it
STILL_SECONDS = 90  # without a sign of life, which comes every 5 of the host's seconds


def _still(folder: Path) -> bool:
    alive = folder / "alive"
    return alive.exists() and time.time() - alive.stat().st_mtime > STILL_SECONDS


def _hosts(scenario: Scenario, kernel: Path, folder: Path):
    """The running host, or both: the first listens for the second."""
    yield Host(scenario, kernel, folder, ["-serial", f"file:{folder / 'host.log'}"])
    if scenario.peer:
        until = time.monotonic() + 30
        while not (folder / "network").exists() and time.monotonic() < until:
            time.sleep(0.05)
        folder = folder / PEER
        yield Host(scenario, kernel, folder, ["-serial", f"file:{folder / 'host.log'}"], peer=True)


def _last_phase(folder: Path) -> str:
    phases = (folder / "phases").read_text().splitlines() if (folder / "phases").exists() else []
    return phases[-1].split(" ", 1)[1] if phases else "the host's boot"


def _play(scenario: Scenario, kernel: Path, folder: Path, follow: bool):
    hosts = []
    deadline = time.monotonic() + scenario.timeout
    offset = 0
    try:
        hosts.extend(_hosts(scenario, kernel, folder))
        while running := [host for host in hosts if host.process.poll() is None]:
            for host in running:
                if _still(host.folder):
                    raise Stopped(f"the emulated host stands still; it was at: {_last_phase(host.folder)}")
                if host.unpinned:
                    host.pin()
            if time.monotonic() > deadline:
                raise Failed(f"not finished after {scenario.timeout} s; it was at: {_last_phase(running[0].folder)}")
            if follow:
                offset = _follow(folder / "report", offset)
            time.sleep(0.05)
        if follow:
            _follow(folder / "report", offset)
    finally:
        for host in hosts:
            host.stop()
    for host in hosts:
        if host.process.returncode:
            reason = ((host.folder / "qemu.err").read_text().strip().splitlines() or ["no message"])[-1]
            raise Failed(f"the emulated host's QEMU failed with {host.process.returncode}: {reason}")


def _run(scenario: Scenario, folder: Path) -> Run:
    run = Run(folder, scenario, scenario.machine)
    run.peer = Run(folder / PEER, scenario, scenario.peer) if scenario.peer else None
    return run


def _hosts_of(run: Run) -> list:
    return [run, run.peer] if run.peer else [run]


def _judge(scenario: Scenario, folder: Path):
    run = _run(scenario, folder)
    try:
        _judge_run(scenario, run)
    except Stopped:
        raise
    except Failed:
        for each in _hosts_of(run):
            each.expect_no_crash()  # the better reason, where there is one: what else went wrong may follow from it
        raise


def _judge_run(scenario: Scenario, run: Run):
    for each in _hosts_of(run):
        each.expect_clean_host()
        if "host.status" not in each.facts:
            raise Stopped("the emulated host died; see host.log")
        for trouble in ("host.missing", "host.unbound"):
            run.expect(trouble not in each.facts, f"{trouble}: {each.facts.get(trouble)}")
    scenario.judge(run)
    for each in _hosts_of(run):
        each.expect_fact("host.status", "0")
        each.expect_released()


def play(name: str, tenon: Path, follow: bool = False) -> float:
    """Runs one scenario and returns its seconds. Raises Failed or Skipped. The folder stays; its disks only on failure."""
    scenario = Scenario(name)
    needed = scenario.machine.memory_mib + (scenario.peer.memory_mib if scenario.peer else 0) + 512
    if _available_mib() < needed:
        raise Skipped(f"needs {needed} MiB of free memory, this machine has {_available_mib()}")
    with open(build.build_folder() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(1, ATTEMPTS):
            try:
                return _play_and_judge(scenario, tenon, follow)
            except Stopped as reason:
                print(f"AGAIN {name} {reason}", flush=True)
        return _play_and_judge(scenario, tenon, follow)


def _play_and_judge(scenario: Scenario, tenon: Path, follow: bool) -> float:
    folder = build.build_folder() / scenario.name
    kernel = prepare(scenario, tenon, folder)
    started = time.monotonic()
    try:
        _play(scenario, kernel, folder, follow)
    except Stopped:
        raise
    except Failed:
        for each in _hosts_of(_run(scenario, folder)):
            each.expect_no_crash()  # the better reasons, where there are any
            each.expect_clean_host()
        raise
    _judge(scenario, folder)
    for disk in scenario.machine.disks:
        (folder / f"{disk.id}.img").unlink()
    return time.monotonic() - started


def shell(name: str, tenon: Path):
    """A developer's shell in the host of a scenario, with its devices bound."""
    scenario = Scenario(name)
    folder = build.build_folder() / f"{name}-shell"
    kernel = prepare(scenario, tenon, folder)
    size = os.get_terminal_size() if sys.stdin.isatty() else os.terminal_size((80, 24))
    append = f"quiet lab_shell=1 lab_rows={size.lines} lab_cols={size.columns}"
    host = Host(scenario, kernel, folder, ["-serial", "mon:stdio"], append, interactive=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host.process.wait()
    host.stop()
