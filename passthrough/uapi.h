/* SPDX-License-Identifier: MIT */
/*
 * What Debian 12's kernel headers (6.1) lack of the VFIO and iommufd interfaces. Declared by us from the kernel's
 * documented ABI, each behind a guard, so that newer headers win.
 */
#ifndef UAPI_H
#define UAPI_H

#include <stdint.h>

#include <linux/ioctl.h>
#include <linux/vfio.h>

#if defined(__has_include)
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif
#endif

/* VFIO character devices (Linux 6.6) */
#ifndef VFIO_DEVICE_BIND_IOMMUFD
struct vfio_device_bind_iommufd {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
};
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct vfio_device_attach_iommufd_pt {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id;
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

struct vfio_device_detach_iommufd_pt {
	uint32_t argsz;
	uint32_t flags;
};
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)
#endif

/* VF tokens on character devices (Linux 6.17): VFIO_DEVICE_BIND_IOMMUFD with the flag takes this longer argument. */
#ifndef VFIO_DEVICE_BIND_FLAG_TOKEN
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1u << 0)
#endif
struct bind_iommufd_with_token {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
	uint64_t token_uuid_ptr;
};

/* Hot reset of devices that are used through iommufd (Linux 6.5) */
#ifndef VFIO_PCI_HOT_RESET_FLAG_DEV_ID
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID       (1u << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1u << 1)
#define VFIO_PCI_DEVID_OWNED                 0
#define VFIO_PCI_DEVID_NOT_OWNED             (-1)
#endif

/* iommufd (Linux 6.2): every argument starts with its own size */
#ifndef IOMMU_IOAS_ALLOC
struct iommu_destroy {
	uint32_t size;
	uint32_t id;
};
#define IOMMU_DESTROY _IO(';', 0x80)

struct iommu_ioas_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t out_ioas_id;
};
#define IOMMU_IOAS_ALLOC _IO(';', 0x81)

struct iommu_iova_range {
	uint64_t start;
	uint64_t last;
};

struct iommu_ioas_iova_ranges {
	uint32_t size;
	uint32_t ioas_id;
	uint32_t num_iovas;
	uint32_t __reserved;
	uint64_t allowed_iovas;
	uint64_t out_iova_alignment;
};
#define IOMMU_IOAS_IOVA_RANGES _IO(';', 0x84)

#define IOMMU_IOAS_MAP_FIXED_IOVA (1u << 0)
#define IOMMU_IOAS_MAP_WRITEABLE  (1u << 1)
#define IOMMU_IOAS_MAP_READABLE   (1u << 2)
struct iommu_ioas_map {
	uint32_t size;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t __reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;
};
#define IOMMU_IOAS_MAP _IO(';', 0x85)

struct iommu_ioas_unmap {
	uint32_t size;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t length;
};
#define IOMMU_IOAS_UNMAP _IO(';', 0x86)

/* Which IOAS VFIO's container ioctls on an iommufd are about. */
#define IOMMU_VFIO_IOAS_GET   0
#define IOMMU_VFIO_IOAS_SET   1
#define IOMMU_VFIO_IOAS_CLEAR 2
struct iommu_vfio_ioas {
	uint32_t size;
	uint32_t ioas_id;
	uint16_t op;
	uint16_t __reserved;
};
#define IOMMU_VFIO_IOAS _IO(';', 0x88)
#endif

#endif
