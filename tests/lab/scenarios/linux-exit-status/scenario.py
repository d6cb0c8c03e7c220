# SPDX-License-Identifier: MIT
"""The guest ends the VM with status 42 through the exit device, and tenon exits with it."""
from labkit import *

machine = Machine()


def judge(run):
    run.expect_fact("guest.status", "42")
    run.expect("the exit device ended nothing" not in run.guest().text, "the write to the exit device did not end the VM")
