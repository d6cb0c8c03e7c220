# SPDX-License-Identifier: MIT
APPEND="$APPEND vfio.enable_unsafe_noiommu_mode=1"
tenon_linux guest --device $EDU
