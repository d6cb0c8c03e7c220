# SPDX-License-Identifier: MIT
"""wbinvd on an IOMMU that keeps all DMA coherent: KVM registers nothing, and WBINVD stays without effect."""
from labkit import *

based_on = "wbinvd"
machine = Machine(
    coherent=True,
    disks=[Disk("nvme", 8)],
    ports=[RootPort("nvme_port", at="04.0")],
    devices=[Device("nvme", "nvme,serial=nvme,drive=nvme", at="00.0", bus="nvme_port")],
)
