# SPDX-License-Identifier: MIT
"""The same guest (migrate_payload.S: 1 GiB filled, 64 MiB written all the time) moved by tenon and by QEMU, over loopback TCP."""
from pathlib import Path
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

TREE = Path(__file__).resolve().parent.parent.parent
MEMORY_MIB, HOT_PAGES, PAGES_A_SECOND = 1024, 16384, 16384
FILLED_SECONDS, SETTLED_SECONDS, AFTER_SECONDS = 60, 1.0, 0.5


def tsc_hz():
    """Of the guest, which has the host's counter."""
    found = re.search(r"^cpu MHz\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return int(float(found.group(1)) * 1e6)


def payload(folder):
    source = TREE / "tests" / "bench"
    subprocess.run(["gcc", f"-DRAM_END={MEMORY_MIB << 20}", f"-DHOT_PAGES={HOT_PAGES}",
                    f"-DTSC_PER_PAGE={tsc_hz() // PAGES_A_SECOND}", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
                    f"-Wl,-T,{source / 'payload.ld'}", "-o", folder / "migrate_payload", source / "migrate_payload.S"], check=True)
    return folder / "migrate_payload"


class Vm:
    """A VMM's process, whose guest's words come by its standard output and are noted with their times."""

    def __init__(self, command):
        self.said = []
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while data := os.read(self.process.stdout.fileno(), 4096):
            self.said.append((time.monotonic(), data.count(b".")))

    def wait_for_words(self, seconds):
        until = time.monotonic() + seconds
        while not self.said:
            if self.process.poll() is not None:
                raise RuntimeError((self.process.stderr.read().decode().strip().splitlines() or ["it ended at once"])[-1])
            if time.monotonic() > until:
                raise RuntimeError(f"its guest says nothing after {seconds} s")
            time.sleep(0.01)

    def end(self):
        self.process.kill()
        self.process.communicate()


def wait_for(path):
    until = time.monotonic() + 10
    while not os.path.exists(path):
        if time.monotonic() > until:
            raise RuntimeError(f"{path} does not come")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def longest_silence(source, destination):
    """From the last word before to the first after; the longest, as the guest may also be silent while it is moved."""
    times = sorted([at for at, _ in source.said] + [at for at, _ in destination.said])
    first = source.said[0][0]
    return max(later - earlier for earlier, later in zip(times, times[1:]) if earlier >= first)


class Tenon:
    name = "tenon"

    def __init__(self, program, connections=1):
        self.program, self.connections = program, connections

    def start(self, image, folder, role, port):
        self.control = getattr(self, "control", {})
        self.control[role] = folder / f"tenon-{role}"
        command = [self.program, "run", "--kernel", image, "--memory", f"{MEMORY_MIB}M", "--cpus", "1", "--serial", "stdio",
                   "--quiet", "--control", self.control[role]]
        vm = Vm(command + (["--incoming", f"tcp:127.0.0.1:{port}"] if role == "destination" else []))
        wait_for(self.control[role])
        return vm

    def move(self, port, limit_ms):
        done = subprocess.run([str(self.program), "migrate", str(self.control["source"]), f"tcp:127.0.0.1:{port}", "--json",
                               "--downtime-limit", f"{limit_ms}ms", "--connections", str(self.connections)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
        events = [json.loads(line) for line in done.stdout.splitlines()]
        last = [event for event in events if event.get("phase") == "done"][-1]
        return last["elapsed_ns"] / 1e9, last["downtime_ns"] / 1e9


class Qemu:
    def __init__(self, channels=0):
        self.channels = channels

    def start(self, image, folder, role, port):
        self.monitor = getattr(self, "monitor", {})
        self.monitor[role] = folder / f"qemu-{role}"
        vm = Vm(["qemu-system-x86_64", "-M", "microvm,accel=kvm,rtc=off,pit=off,pic=off", "-cpu", "host", "-m", f"{MEMORY_MIB}M",
                 "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-kernel", image,
                 "-qmp", f"unix:{self.monitor[role]},server=on,wait=off",
                 *(["-incoming", "defer"] if role == "destination" else [])])
        wait_for(self.monitor[role])
        self.talk = getattr(self, "talk", {})
        self.talk[role] = Qmp(self.monitor[role])
        if role == "destination":
            self.prepare(self.talk[role])
            self.talk[role].ask("migrate-incoming", uri=f"tcp:127.0.0.1:{port}")
        return vm

    def prepare(self, qmp):
        if self.channels:
            qmp.ask("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            qmp.ask("migrate-set-parameters", **{"multifd-channels": self.channels})

    def move(self, port, limit_ms):
        qmp = self.talk["source"]
        self.prepare(qmp)
        qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": limit_ms})
        qmp.ask("migrate", uri=f"tcp:127.0.0.1:{port}")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            status = qmp.ask("query-migrate")
            if status.get("status") == "completed":
                return status["total-time"] / 1e3, status["downtime"] / 1e3
            if status.get("status") in ("failed", "cancelled"):
                raise RuntimeError(f"QEMU's migration {status['status']}: {status.get('error-desc', 'no reason given')}")
            time.sleep(0.005)
        raise RuntimeError("QEMU's migration does not end")


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise RuntimeError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def move(vmm, image, limit_ms):
    """@return seconds in all, seconds of downtime as the VMM says, and as the guest's words show"""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        vms = []
        try:
            vms.append(vmm.start(image, Path(folder), "source", port))
            vms[0].wait_for_words(FILLED_SECONDS)
            vms.append(vmm.start(image, Path(folder), "destination", port))
            time.sleep(SETTLED_SECONDS)
            total, downtime = vmm.move(port, limit_ms)
            vms[1].wait_for_words(10)
            time.sleep(AFTER_SECONDS)
            return total, downtime, longest_silence(*vms)
        finally:
            for vm in vms:
                vm.end()
