# SPDX-License-Identifier: MIT
"""linux-nvme again, with an ELF vmlinux that is entered by PVH."""
from labkit import *

based_on = "linux-nvme"
