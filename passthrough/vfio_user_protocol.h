/* SPDX-License-Identifier: MIT */
/*
 * The messages of vfio-user: a PCI device in another process, reached over a UNIX socket. Numbers and layouts only; the
 * client is in this folder, a server for tests in tests/testdev/.
 *
 * Source: the vfio-user Protocol Specification (QEMU's docs/interop/vfio-user.rst), whose section each part names. Where
 * that text and the servers in use (libvfio-user 0.2) differ, the comment says so and the layout is theirs, because that is
 * what is on the wire. The flags inside the structures are those of <linux/vfio.h>, "VFIO Device API"; those that Debian
 * 12's headers lack are here.
 *
 * All numbers are little-endian: the specification says "host", and both ends are on one host.
 */
#ifndef VFIO_USER_PROTOCOL_H
#define VFIO_USER_PROTOCOL_H

#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are laid out for little-endian machines");

/* Section "VFIO_USER_VERSION": the major numbers must be equal; the smaller minor number holds. 0.2 has migration v2. */
#define VU_MAJOR 0
#define VU_MINOR 2

/* ---- Section "Commands" ---- */

enum vu_command {
	/* From the client to the server */
	VU_VERSION = 1,
	VU_DMA_MAP = 2,
	VU_DMA_UNMAP = 3,
	VU_GET_INFO = 4,
	VU_GET_REGION_INFO = 5,
	VU_GET_REGION_IO_FDS = 6,
	VU_GET_IRQ_INFO = 7,
	VU_SET_IRQS = 8,
	VU_REGION_READ = 9,
	VU_REGION_WRITE = 10,
	/* From the server to the client */
	VU_DMA_READ = 11,
	VU_DMA_WRITE = 12,
	/* From the client to the server; 14 was dirty pages before migration v2 */
	VU_RESET = 13,
	VU_REGION_WRITE_MULTI = 15,
	VU_FEATURE = 16,
	VU_MIG_DATA_READ = 17,
	VU_MIG_DATA_WRITE = 18,
	VU_COMMANDS, /* one more than the last */
};

/* ---- Section "Header" ---- */

struct vu_header {
	uint16_t id;      /* the sender's; the reply repeats it */
	uint16_t command; /* enum vu_command; the reply repeats it */
	uint32_t bytes;   /* of the whole message, this header included */
	uint32_t flags;   /* VU_TYPE_* and VU_FLAG_* */
	uint32_t error;   /* an errno value, in a reply with VU_FLAG_ERROR; 0 there means "unknown" */
};

#define VU_TYPE_MASK     0xfu
#define VU_TYPE_COMMAND  0u
#define VU_TYPE_REPLY    1u
#define VU_FLAG_NO_REPLY (1u << 4) /* in a command: the sender wants no reply, not even for a failure */
#define VU_FLAG_ERROR    (1u << 5) /* in a reply: the command failed; the reply is a header alone */

/* Servers refuse errno values above this (libvfio-user's limit; Linux has none above 4095 either). */
#define VU_ERROR_MAX 4095u

/* ---- Section "VFIO_USER_VERSION" ---- */

/* Request and reply: this, then capabilities as JSON text with a terminating zero byte; the text is optional. */
struct vu_version {
	uint16_t major;
	uint16_t minor;
};

/* What holds where a side's capabilities do not mention it. */
#define VU_DEFAULT_MSG_FDS    1u           /* max_msg_fds */
#define VU_DEFAULT_DATA_BYTES (1u << 20)   /* max_data_xfer_size */
#define VU_DEFAULT_DMA_MAPS   65535u       /* max_dma_maps */
#define VU_DEFAULT_PAGE_SIZES (1ull << 12) /* pgsizes */

/* Most fds that Linux carries in one message (SCM_MAX_FD); max_msg_fds may claim more. */
#define VU_FDS_MAX 253u

/* ---- Sections "VFIO_USER_DMA_MAP" and "VFIO_USER_DMA_UNMAP" ---- */

/* Request. At most one fd: with it the server maps the memory, without it the server asks by VU_DMA_READ and _WRITE. */
struct vu_dma_map {
	uint32_t argsz;  /* sizeof(struct vu_dma_map) */
	uint32_t flags;  /* VU_DMA_* */
	uint64_t offset; /* into the fd's file */
	uint64_t address;
	uint64_t bytes;
};

#define VU_DMA_READABLE  (1u << 0)
#define VU_DMA_WRITEABLE (1u << 1)
/* libvfio-user: how the server uses the fd; neither bit: it maps it. */
#define VU_DMA_MMAP    (1u << 2)
#define VU_DMA_FILE_IO (1u << 3)

/* Request and reply. Address and size are those of one VU_DMA_MAP. */
struct vu_dma_unmap {
	uint32_t argsz; /* room for the reply */
	uint32_t flags; /* zero, or one of VU_UNMAP_* (libvfio-user) */
	uint64_t address;
	uint64_t bytes;
};

#define VU_UNMAP_DIRTY_BITMAP (1u << 0) /* a struct vu_bitmap follows; the reply has the bitmap after it */
#define VU_UNMAP_ALL          (1u << 1) /* everything; address and bytes are zero */

struct vu_bitmap {
	uint64_t page_bytes;
	uint64_t bytes; /* of the bitmap */
};

/* ---- Section "VFIO_USER_DEVICE_GET_INFO" ---- */

struct vu_info {
	uint32_t argsz;
	uint32_t flags; /* VFIO_DEVICE_FLAGS_RESET, VFIO_DEVICE_FLAGS_PCI */
	uint32_t regions;
	uint32_t irqs;
};

/* ---- Section "VFIO_USER_DEVICE_GET_REGION_INFO" ---- */

/* As struct vfio_region_info. A region that can be mapped comes with one fd. */
struct vu_region_info {
	uint32_t argsz; /* request: room for the reply; reply: what the whole reply needs */
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
	uint32_t index;
	uint32_t cap_offset; /* from the start of this structure; 0: none */
	uint64_t bytes;
	uint64_t offset; /* of the region in the fd's file */
};

/* As struct vfio_info_cap_header; `next` counts from the start of the region info, 0 ends the list. */
struct vu_capability {
	uint16_t id; /* VFIO_REGION_INFO_CAP_* */
	uint16_t version;
	uint32_t next;
};

/* As struct vfio_region_info_cap_sparse_mmap; the areas follow. */
struct vu_sparse {
	struct vu_capability header;
	uint32_t areas;
	uint32_t reserved;
};

struct vu_sparse_area {
	uint64_t offset; /* in the region */
	uint64_t bytes;
};

/* ---- Section "VFIO_USER_DEVICE_GET_REGION_IO_FDS" ---- */

/*
 * Request and reply; in the reply the sub-regions follow. The text subtracts 32 from argsz to find the size of one
 * sub-region; the reply's fixed part has 16 bytes, as its table says.
 */
struct vu_region_io_fds {
	uint32_t argsz;
	uint32_t flags; /* zero */
	uint32_t index;
	uint32_t count; /* zero in the request */
};

#define VU_IOEVENTFD_MATCH (1u << 0) /* KVM_IOEVENTFD_FLAG_DATAMATCH */

#define VU_IO_FD_IOEVENTFD        0u
#define VU_IO_FD_IOREGIONFD       1u
#define VU_IO_FD_IOEVENTFD_SHADOW 2u /* libvfio-user, experimental: the value is stored in shared memory */

struct vu_sub_region {
	uint64_t offset; /* in the region */
	uint64_t bytes;  /* 0: a write of any size */
	uint32_t fd_index;
	uint32_t type;  /* VU_IO_FD_* */
	uint32_t flags; /* KVM_IOEVENTFD_FLAG_* */
	uint32_t
		shadow_fd_index; /* padding but for VU_IO_FD_IOEVENTFD_SHADOW, as is shadow_offset, which the text lacks */
	uint64_t shadow_offset;
	uint64_t match; /* user_data for VU_IO_FD_IOREGIONFD */
};

/* The specification's layout, 40 bytes; libvfio-user sends 48, with shadow_offset. Tell them by (argsz - 16) / count. */
#define VU_SUB_REGION_SHORT_BYTES 40u
#define VU_SUB_REGION_MATCH_SHORT 32u /* offset of `match` in the short one */

/* ---- Sections "VFIO_USER_DEVICE_GET_IRQ_INFO" and "VFIO_USER_DEVICE_SET_IRQS" ---- */

struct vu_irq_info {
	uint32_t argsz;
	uint32_t flags; /* VFIO_IRQ_INFO_* */
	uint32_t index;
	uint32_t count;
};

/* Request, without reply payload. One byte for each interrupt follows with VFIO_IRQ_SET_DATA_BOOL; fds come beside it. */
struct vu_irq_set {
	uint32_t argsz; /* of the request */
	uint32_t flags; /* VFIO_IRQ_SET_* */
	uint32_t index;
	uint32_t start;
	uint32_t count;
};

/* ---- Sections "VFIO_USER_REGION_READ", "..._WRITE", "..._WRITE_MULTI" ---- */

/* Request and reply; the data follows in the request of a write and in the reply of a read. */
struct vu_region_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

/* Request: this, then `writes` of struct vu_one_write. Reply: this, with the number of writes done. */
struct vu_write_multi {
	uint64_t writes;
};

struct vu_one_write {
	uint64_t offset;
	uint32_t region;
	uint32_t count; /* 1 to 8 */
	uint8_t data[8];
};

/* ---- Sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE" ---- */

/*
 * Request and reply, the data as above. The table of the reply of a write gives `count` 4 bytes; servers expect the same 16
 * bytes everywhere.
 */
struct vu_dma_access {
	uint64_t address;
	uint64_t count;
};

/* ---- Section "VFIO_USER_DEVICE_FEATURE" ---- */

/* Request and reply; the feature's data follows. */
struct vu_feature {
	uint32_t argsz;
	uint32_t flags; /* a feature's number and VU_FEATURE_* */
};

#define VU_FEATURE_NUMBER 0xffffu
#define VU_FEATURE_GET    (1u << 16)
#define VU_FEATURE_SET    (1u << 17)
#define VU_FEATURE_PROBE  (1u << 18)

enum vu_feature_number {
	VU_FEATURE_MIGRATION = 1, /* get: struct vu_migration */
	VU_FEATURE_STATE = 2,     /* get, set: struct vu_state */
	VU_FEATURE_LOG_START = 6, /* set: struct vu_log_start and its ranges */
	VU_FEATURE_LOG_STOP = 7,  /* set: nothing */
	VU_FEATURE_LOG_REPORT =
		8, /* get: struct vu_log_report, in the request too; the reply has the bitmap after it */
	VU_FEATURE_STATE_BYTES = 9, /* get: struct vu_state_bytes. VFIO's; not in the specification, so probe it */
};

struct vu_migration {
	uint64_t flags;
};

#define VU_MIGRATION_STOP_COPY (1u << 0)
#define VU_MIGRATION_P2P       (1u << 1) /* the specification's states leave it out; VFIO's include it */
#define VU_MIGRATION_PRE_COPY  (1u << 2)

/* As enum vfio_device_mig_state. */
enum vu_device_state {
	VU_STATE_ERROR,
	VU_STATE_STOP,
	VU_STATE_RUNNING,
	VU_STATE_STOP_COPY,
	VU_STATE_RESUMING,
	VU_STATE_RUNNING_P2P,
	VU_STATE_PRE_COPY,
	VU_STATE_PRE_COPY_P2P,
	VU_STATES,
};

struct vu_state {
	uint32_t state;  /* enum vu_device_state */
	int32_t data_fd; /* not used: VU_MIG_DATA_READ and _WRITE carry the data */
};

struct vu_state_bytes {
	uint64_t stop_copy_bytes;
};

struct vu_log_range {
	uint64_t address;
	uint64_t bytes;
};

struct vu_log_start {
	uint64_t page_bytes; /* a wish; the reply says what it is */
	uint32_t ranges;     /* 0: everything. As many struct vu_log_range follow */
	uint32_t reserved;
};

/* Bit N % 64 of word N / 64 of the bitmap is the page at address + N * page_bytes. Reporting clears. */
struct vu_log_report {
	uint64_t address;
	uint64_t bytes;
	uint64_t page_bytes;
};

/* ---- Sections "VFIO_USER_MIG_DATA_READ" and "VFIO_USER_MIG_DATA_WRITE" ---- */

/* Request and reply of a read, whose reply has the data after it; request of a write, with the data, whose reply is empty. */
struct vu_mig_data {
	uint32_t argsz;
	uint32_t
		bytes; /* in the reply of a read: less than asked for means that there is no more (in VU_STATE_PRE_COPY: yet) */
};

_Static_assert(sizeof(struct vu_header) == 16, "header");
_Static_assert(sizeof(struct vu_version) == 4, "version");
_Static_assert(sizeof(struct vu_dma_map) == 32, "DMA map");
_Static_assert(sizeof(struct vu_dma_unmap) == 24, "DMA unmap");
_Static_assert(sizeof(struct vu_bitmap) == 16, "bitmap");
_Static_assert(sizeof(struct vu_info) == 16, "device info");
_Static_assert(sizeof(struct vu_region_info) == 32, "region info");
_Static_assert(sizeof(struct vu_sparse) == 16 && sizeof(struct vu_sparse_area) == 16, "sparse areas");
_Static_assert(sizeof(struct vu_region_io_fds) == 16 && sizeof(struct vu_sub_region) == 48, "region I/O fds");
_Static_assert(sizeof(struct vu_irq_info) == 16 && sizeof(struct vu_irq_set) == 20, "interrupts");
_Static_assert(sizeof(struct vu_region_access) == 16 && sizeof(struct vu_one_write) == 24, "region access");
_Static_assert(sizeof(struct vu_dma_access) == 16, "DMA access");
_Static_assert(sizeof(struct vu_feature) == 8 && sizeof(struct vu_state) == 8, "features");
_Static_assert(sizeof(struct vu_log_start) == 16 && sizeof(struct vu_log_report) == 24, "DMA logging");
_Static_assert(sizeof(struct vu_mig_data) == 8, "migration data");

#endif
