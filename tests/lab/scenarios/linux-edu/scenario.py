# SPDX-License-Identifier: MIT
"""A guest program drives QEMU's edu device through VFIO inside the guest: DMA out and back, MSI, INTx."""
from labkit import *

machine = Machine(devices=[Device("edu", "edu,dma_mask=0xffffffffff", at="04.0")])
programs = ["edu"]


def judge(run):
    guest = run.expect_guest()
    for name, wanted in {"factorial": "3628800", "msi": "5", "dma": "2048", "intx": "5"}.items():
        run.expect_equal(f"edu's {name}", guest.facts.get(name), wanted)
    run.expect_healthy_kernel(guest, allowed=("vfio-pci.*taint|noiommu|no-iommu",))
