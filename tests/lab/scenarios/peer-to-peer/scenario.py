# SPDX-License-Identifier: MIT
"""Two functions of one IOMMU group in one VM; on a container one copies from and to the other's memory by DMA."""
from labkit import *
import json

machine = Machine(
    devices=[
        Device("edu", "edu,dma_mask=0xffffffffffffffff,multifunction=on", at="04.0"),
        Device("memory", "ivshmem-plain,memdev=shared", at="04.1"),
    ],
    extra=["-object", "memory-backend-ram,id=shared,size=1M,share=on"],
)


def judge(run):
    guest = run.expect_guest()
    run.expect_equal("what one device copied within the other", guest.facts.get("copied"), "0x54656E6F")
    run.expect_healthy_kernel(guest)
    for interface in ("container", "iommufd"):
        devices = json.loads(run.text(f"{interface}.json"))["devices"]
        run.expect_equal(f"the number of IOMMU groups ({interface})", len({d["iommu_group"] for d in devices}), 1)
        for device in devices:
            run.expect_equal("the interface", device["interface"], interface)
            run.expect_equal("peer to peer", device["peer_to_peer"], interface == "container")
            run.expect_equal("coherent", device["coherent"], False)
