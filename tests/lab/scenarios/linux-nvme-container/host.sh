# SPDX-License-Identifier: MIT
tenon_linux guest --device $NVME --iommu container
