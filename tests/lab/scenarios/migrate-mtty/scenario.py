# SPDX-License-Identifier: MIT
"""A guest with mtty goes to and fro between two hosts, and sends bytes through it all the while: none is lost or comes twice."""
from labkit import *
from labkit.moves import expect_moves

machine = peer = Machine(memory_mib=1024)
programs = ["endure", "uart_loop"]
timeout = 720


def judge(run):
    expect_moves(run, 4)
