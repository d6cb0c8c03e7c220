# SPDX-License-Identifier: MIT
"""The lab: runs tenon in an emulated host with real VFIO, iommufd and KVM, and judges what it did from outside.

A scenario's scenario.py starts with `from labkit import *` and sees what is named here.
"""
from .machine import Bridge, Device, Disk, Machine, RootPort
from .judge import Run

__all__ = ["Bridge", "Device", "Disk", "Machine", "RootPort", "Run"]
