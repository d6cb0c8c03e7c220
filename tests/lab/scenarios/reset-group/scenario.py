# SPDX-License-Identifier: MIT
"""The cases of reset-cdev through the legacy interface: the kernel tells groups, and hot reset wants their files."""
from labkit import *

based_on = "reset-cdev"
