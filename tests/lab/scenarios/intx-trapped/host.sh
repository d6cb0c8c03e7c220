# SPDX-License-Identifier: MIT
APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
tenon_linux kernel --stats --device $EDU
tenon_linux trapped --stats --device $EDU,intx=trapped
