# SPDX-License-Identifier: MIT
"""The devices of scenario devices on Debian's stock kernel, which has groups and a container and no iommufd."""
from labkit import *

based_on = "devices"
host_kernel = "debian"
