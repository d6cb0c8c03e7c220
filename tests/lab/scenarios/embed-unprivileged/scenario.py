# SPDX-License-Identifier: MIT
"""A process without any privilege drives a device through libtenon: files opened for it, its own event loop, no KVM."""
from labkit import *

machine = Machine(devices=[Device("edu", "edu,dma_mask=0xffffffffff", at="04.0")])
embedders = ["launch", "unprivileged"]


def judge(run):
    run.expect_equal("the program's status", run.facts.get("status"), "0")
    for name, wanted in {"factorial": "3628800", "dma": "2048", "msi": "5", "intx": "5", "done": "1"}.items():
        run.expect_fact(name, wanted)
    # The same without a limit that covers the memory: refused in words, and nothing left bound.
    run.expect_equal("the status with too low a limit", run.facts.get("limited.status"), "1")
    run.expect("RLIMIT_MEMLOCK" in run.text("limited.err"), f"the refusal is: {run.text('limited.err').strip()}")
