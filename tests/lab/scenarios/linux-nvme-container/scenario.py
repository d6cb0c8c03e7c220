# SPDX-License-Identifier: MIT
"""linux-nvme through the legacy interface: the group's file and a container."""
from labkit import *

based_on = "linux-nvme"
