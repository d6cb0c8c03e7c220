# SPDX-License-Identifier: MIT
"""A guest without devices goes to and fro between two hosts, ten times, while it writes memory, watches its clocks and talks TCP."""
from labkit import *
from labkit.moves import expect_moves

machine = peer = Machine(memory_mib=1024)
programs = ["endure"]
timeout = 720


def judge(run):
    expect_moves(run, 10)
