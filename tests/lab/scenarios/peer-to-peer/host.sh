# SPDX-License-Identifier: MIT
for interface in container iommufd; do
	$TENON run --kernel $KERNEL --memory 256M --iommu $interface --device $EDU --device $MEMORY --dry-run --json \
		>$OUT/$interface.json
done
tenon_linux guest --iommu container --device $EDU --device $MEMORY
