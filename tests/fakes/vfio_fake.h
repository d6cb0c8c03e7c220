/* SPDX-License-Identifier: MIT */
/*
 * A host kernel for tests: sysfs with PCI devices, VFIO character devices and iommufd, as a small model behind the
 * functions of passthrough/kernel.h. This header is what tests see: they describe devices, run the library, then look at
 * what the hardware and the kernel went through.
 *
 * Call order: fake_world_reset; add devices; run; fake_assert_nothing_left.
 * Threads: none; one world per process.
 * Source: Linux 6.12 drivers/vfio/device_cdev.c, drivers/vfio/pci/vfio_pci_{core,config,intrs,rdwr}.c, drivers/iommu/iommufd.
 */
#ifndef VFIO_FAKE_H
#define VFIO_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_BARS        6
#define FAKE_CONFIG_MAX  4096
#define FAKE_VECTORS_MAX 2048

/* ---- The machine ---- */

/** A machine without devices, with an IOMMU like Intel's and no lock limit. Forgets all counts and failures. */
void fake_world_reset(void);
/** A file that the library may read; its content is borrowed. NULL: no such file. */
void fake_set_file(const char *path, const void *content, size_t size_bytes);
/** Whether /dev/iommu exists (it does). */
void fake_set_iommufd(bool present);
/** Whether /dev/vfio/vfio and the groups' files exist (they do). */
void fake_set_container(bool present);
/** Whether the kernel makes character devices of VFIO devices (it does). Without, sysfs still has the folder vfio-dev. */
void fake_set_cdevs(bool present);
/** How many mappings a container takes (65535). */
void fake_set_dma_entries(unsigned count);
/** The page size of a container's dirty pages (4096); 0: it has none, as before Linux 5.8. */
void fake_set_dirty_page(unsigned bytes);
/** Whether /dev/vfio/vfio tells the allowed addresses (it does, as since Linux 5.4). */
void fake_set_iova_capability(bool present);
/** Whether BIND_IOMMUFD knows VF tokens (not so, as before Linux 6.17). */
void fake_set_bind_tokens(bool known);
/** What RLIMIT_MEMLOCK allows; UINT64_MAX: no limit. */
void fake_set_memlock(uint64_t bytes);

/* ---- Kernel calls: counts and failures ---- */

enum fake_call {
	FAKE_OPEN,
	FAKE_DUP,
	FAKE_MAP,
	FAKE_RESERVE,
	FAKE_EVENTFD,
	FAKE_POLL_CREATE,
	FAKE_POLL_ADD,
	FAKE_READ_LINE,
	FAKE_LINK_NAME,
	FAKE_LIST,
	FAKE_FD_PATH,
	FAKE_PREAD,
	FAKE_PWRITE,
	FAKE_BIND,
	FAKE_ATTACH,
	FAKE_DETACH,
	FAKE_FEATURE,
	FAKE_GET_INFO,
	FAKE_REGION_INFO,
	FAKE_IRQ_INFO,
	FAKE_SET_IRQS,
	FAKE_DEVICE_RESET,
	FAKE_HOT_RESET_INFO,
	FAKE_HOT_RESET,
	FAKE_IOAS_ALLOC,
	FAKE_IOAS_MAP,
	FAKE_IOAS_UNMAP,
	FAKE_IOVA_RANGES,
	FAKE_IOMMU_DESTROY,
	FAKE_VFIO_IOAS,
	FAKE_CHECK_EXTENSION,
	FAKE_API_VERSION,
	FAKE_SET_IOMMU,
	FAKE_IOMMU_INFO,
	FAKE_DMA_MAP,
	FAKE_DMA_UNMAP,
	FAKE_GROUP_STATUS,
	FAKE_SET_CONTAINER,
	FAKE_GET_DEVICE_FD,
	FAKE_OTHER_IOCTL,
	FAKE_CONNECT,
	FAKE_SEND,
	FAKE_RECEIVE,
	FAKE_WAIT,
	FAKE_POLL_CHANGE,
	FAKE_SEAL,
	FAKE_TIMER,
	FAKE_READ,
	FAKE_WRITE,
	FAKE_PRECOPY_INFO,
	FAKE_HW_INFO,
	FAKE_HWPT_ALLOC,
	FAKE_SET_TRACKING,
	FAKE_GET_DIRTY,
	FAKE_DIRTY_PAGES,
	FAKE_CALLS, /* how many kinds there are */
};

/** Fails the n-th call from now on (1: the next) with -error. Only calls that can fail count. 0: none. */
void fake_fail_call(unsigned n, int error);
/** Fails the n-th call of one kind from now on. 0: none. */
void fake_fail_kind(enum fake_call kind, unsigned n, int error);
/** Fails every call of one kind. 0: none. */
void fake_fail_always(enum fake_call kind, int error);
/** Calls since fake_calls_forget: of one kind, or of all kinds. */
unsigned fake_calls(enum fake_call kind);
unsigned fake_calls_total(void);
void fake_calls_forget(void);
/** Name of the call that a fake_fail_* made fail last; "" when none did. */
const char *fake_failed_call(void);

/* ---- Sockets ---- */

/** Who answers when the library connects: gives out a connected socket, or -errno. NULL: nobody listens anywhere. */
void fake_on_connect(int (*connect)(const char *path));
/** How long a wait for a server that does nothing really takes. A short one is for tests of servers that are silent. */
void fake_set_patience(unsigned milliseconds);

/* ---- Journal: what happened, in order, to kernel and host alike ---- */

void fake_journal(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Index of the first entry at or after `from` that contains `text`, or -1. */
int fake_journal_find(const char *text, int from);
/** How many entries contain `text`. */
unsigned fake_journal_count(const char *text);
void fake_journal_forget(void);
/** Prints it to stderr: for the developer who reads a failing test. */
void fake_journal_print(void);

/* ---- Devices ---- */

struct fake_bar {
	uint64_t size_bytes; /* 0: not implemented */
	bool io;
	bool is_64bit;
	bool prefetchable;
	bool not_mappable; /* REGION_INFO shows no MMAP flag */
	bool caps_loop;    /* the capabilities of REGION_INFO never end */
	bool no_msix_cap;  /* a kernel before MSIX_MAPPABLE: a sparse-mmap capability leaves the table's pages out */
	struct {
		uint64_t offset;
		uint64_t size_bytes;
	} sparse[4];     /* sparse-mmap areas, up to the first of size 0 */
	uint8_t *memory; /* what the device holds; survives until the world is reset */
	int memory_fd;
};

struct fake_vector {
	struct fake_file *trigger; /* eventfd, NULL: none */
	bool allocated;
	bool pending; /* the device wanted to interrupt while nothing was armed */
};

/* What GET_PCI_HOT_RESET_INFO gets wrong. */
enum fake_lie {
	FAKE_LIE_NONE,
	FAKE_LIE_COUNT_HUGE,  /* success, with 4 billion devices */
	FAKE_LIE_COUNT_ZERO,  /* success, without any */
	FAKE_LIE_SELF_ABSENT, /* the last device of the list is missing, and the device asked is the last */
	FAKE_LIE_GROWING,     /* there is never room enough: ENOSPC, one more each time */
	FAKE_LIE_NOT_OWNED,   /* every device has an id, but the flag says that they are not all owned */
};

#define FAKE_PAGES_MAX   64
#define FAKE_RANGES_MAX  64
#define FAKE_IMAGE_BYTES 256
#define FAKE_STREAM_MAX  8192

/* Pages of 4 KiB, by number. */
struct fake_pages {
	uint64_t page[FAKE_PAGES_MAX];
	unsigned count;
};

/* What VFIO_DEVICE_FEATURE_MIGRATION and those behind it are about. */
struct fake_migration {
	/* The driver */
	bool present, p2p, pre_copy;
	bool no_data_size; /* as before Linux 6.3 */
	bool quiet_end;    /* it reads 0, and not ENOMSG, where there is nothing for now, as the kernel's mtty does */
	unsigned late;     /* so often its data file says EAGAIN */
	bool no_file;      /* it forgets the data's file */
	bool stray_file;   /* it brings one with states that have no data, too */
	unsigned initial_bytes; /* of what it saves first */
	/* The next step into a state: fails with `error` and leaves the device in another. error 0: none. */
	struct {
		uint32_t into, in;
		int error;
	} failure;

	/* The device */
	uint8_t image[FAKE_IMAGE_BYTES]; /* what it saves and loads */
	uint32_t state;                  /* enum vfio_device_mig_state */

	/* The kernel's side */
	struct fake_file *session; /* its data; NULL: none */
	uint8_t stream[FAKE_STREAM_MAX];
	size_t stream_bytes, stream_at;
	size_t pre_copy_bytes; /* of the stream, before the device stopped */
};

/* What VFIO_DEVICE_FEATURE_DMA_LOGGING_START and those behind it are about. */
struct fake_logging {
	bool present;
	unsigned ranges_max; /* more are refused; 0: any number */
	int too_many;        /* with this */
	bool on;
	struct {
		uint64_t first, last;
	} ranges[FAKE_RANGES_MAX];
	unsigned range_count;
	struct fake_pages written;
};

struct fake_device {
	/* Host view */
	char bdf[16];
	char driver[32]; /* "": none */
	int group;       /* -1: none */
	int node;        /* N of vfioN, -1: no character device */
	bool hidden_in_sysfs;
	char uuid[40];     /* of a mediated device, which has no place on the PCI bus; else "" */
	char physfn[16];   /* of a VF: its PF's address */
	bool is_pf;        /* sysfs has sriov_totalvfs */
	bool non_coherent; /* its IOMMU is Intel's without snoop control */

	/* Hardware: config space with what a write changes, and BARs */
	uint8_t config[FAKE_CONFIG_MAX];
	uint8_t writable[FAKE_CONFIG_MAX];
	uint8_t write_1_clears[FAKE_CONFIG_MAX];
	unsigned config_bytes;            /* 256 or 4096; less or odd for a mediated device */
	unsigned pm, msi, msix, pcie, af; /* offsets of capabilities, 0: none */
	uint8_t last_capability;          /* where the next pointer of the chain's end is */
	uint16_t last_extended;
	struct fake_bar bars[FAKE_BARS];
	uint32_t rom_bar_bytes; /* 0: no expansion ROM */
	uint32_t rom_bytes;     /* of its image: what lies behind reads ones */
	unsigned rom_reads;     /* how often the kernel had to map it */
	size_t rom_read_max;    /* the largest read of it */
	bool intx_line;         /* the device asserts its INTx */
	void (*bar_written)(void *context, struct fake_device *device);
	void *bar_written_context;

	/* Kernel and host knobs */
	bool no_reset;           /* VFIO_DEVICE_FLAGS_RESET is not set */
	char reset_method[48];   /* as in sysfs; "": the kernel is too old to tell; " ": it has none left */
	unsigned slot;           /* devices of one slot (not 0) have their hot reset in common */
	int hot_reset_error;     /* the hardware fails it so */
	unsigned hot_reset_busy; /* so often the kernel says EBUSY: a neighbour is locked */
	enum fake_lie lie;
	int reset_error;        /* VFIO_DEVICE_RESET fails with it */
	unsigned reset_busy;    /* so often VFIO_DEVICE_RESET says EAGAIN: somebody holds the device's lock */
	bool static_msix;       /* the kernel has no dynamic MSI-X */
	unsigned host_vectors;  /* the host has only so many left; 0: enough */
	unsigned irq_count_lie; /* MSI-X count of GET_IRQ_INFO; 0: the truth */
	int open_error;
	bool open_elsewhere;  /* another process has it: BIND says EINVAL */
	bool group_owned;     /* another process has a device of its group: BIND says EPERM */
	bool firmware_memory; /* the group cannot be had, as the firmware keeps memory for it */
	unsigned open_busy;   /* so often opening says EAGAIN: somebody holds the device's lock */
	struct fake_migration migration;
	struct fake_logging logging;
	void (*slow)(void *context); /* called while its driver takes its time: with data, with its log */
	void *slow_context;
	bool dirty_bits;                        /* its IOMMU has them */
	unsigned iommu;                         /* devices of different IOMMUs share no page table */
	uint64_t reserved_first, reserved_last; /* IOVA reserved for it beside the MSI window; last 0: none */

	/* What the hardware saw */
	unsigned resets;     /* of any kind */
	unsigned hot_resets; /* of its slot */
	uint16_t command_at_reset;
	unsigned power_at_reset;      /* D-state */
	unsigned interrupts_at_reset; /* interrupt kinds that were on */
	uint64_t config_writes;

	/* The kernel's side: a bound device */
	struct fake_file *owner; /* NULL: not bound */
	uint8_t vf_token[16];    /* of a PF: what its VFs' users must present */
	unsigned vf_users;       /* of a PF: how many VFs are open */
	uint32_t id;             /* iommufd's, of the binding */
	struct fake_ioas *ioas;
	struct fake_hwpt *hwpt; /* of `ioas`, and asked for by the library; NULL: the kernel's own */
	uint8_t vconfig[FAKE_CONFIG_MAX];
	uint8_t virt[FAKE_CONFIG_MAX];
	uint8_t permitted[FAKE_CONFIG_MAX];
	uint16_t area[FAKE_CONFIG_MAX]; /* start of the capability that a byte belongs to; 0xffff: none */
	bool bars_dirty;
	unsigned power;                 /* D-state */
	uint8_t saved[FAKE_CONFIG_MAX]; /* config space as it was before D3, of a device that forgets it there */
	int irq_kind;                   /* VFIO_PCI_*_IRQ_INDEX in use, -1: none */
	unsigned irq_vectors;           /* allocated at enable */
	struct fake_vector vectors[FAKE_VECTORS_MAX];
	bool intx_masked;
	bool intx_disabled; /* by the command register's bit */
	struct fake_file *intx_unmask;
	struct fake_file *error_event;
	struct fake_file *request_event;
};

/** A conventional PCI device in a group of its own number, on vfio-pci, with a character device. No BARs yet. */
struct fake_device *fake_device_add(const char *bdf, uint16_t vendor, uint16_t device, int group);
/** Gives a device another host driver (NULL: none), and so takes its VFIO character device away unless it is VFIO's. */
void fake_device_driver(struct fake_device *device, const char *driver);
/** Makes a device a mediated one. */
void fake_device_mediated(struct fake_device *device, const char *uuid);
/** Makes a device a VF of another, which becomes a PF. */
void fake_device_vf(struct fake_device *vf, struct fake_device *pf);

/** Takes away a device's function-level reset: what is left is what `method` names in sysfs ("": nothing). */
void fake_device_reset_method(struct fake_device *device, const char *method);
/** The host's administrator takes away all that the kernel could reset a device by: echo > reset_method. */
void fake_empty_reset_method(struct fake_device *device);
/** Makes a device a PCI-to-PCI bridge with the host's port driver. */
void fake_device_bridge(struct fake_device *device);

void fake_bar_memory(struct fake_device *device, unsigned bar, uint64_t size_bytes, bool is_64bit, bool prefetchable);
void fake_bar_io(struct fake_device *device, unsigned bar, uint32_t size_bytes);
/** Appends a capability at `offset`; its body is zero and read-only. @return offset */
unsigned fake_capability(struct fake_device *device, unsigned offset, uint8_t id, unsigned size_bytes);
unsigned fake_capability_extended(struct fake_device *device, unsigned offset, uint16_t id, unsigned version);
void fake_add_pm(struct fake_device *device, unsigned offset);
void fake_add_msi(struct fake_device *device, unsigned offset, unsigned vectors, bool is_64bit, bool maskable);
void fake_add_msix(struct fake_device *device, unsigned offset, unsigned vectors, unsigned table_bar,
		   uint32_t table_offset, unsigned pba_bar, uint32_t pba_offset);
/** PCI Express capability version 2 with function-level reset; makes config space 4096 bytes. */
void fake_add_pcie(struct fake_device *device, unsigned offset);
void fake_add_af(struct fake_device *device, unsigned offset);
void fake_add_vpd(struct fake_device *device, unsigned offset);
void fake_add_sriov(struct fake_device *device, unsigned offset);
void fake_add_aer(struct fake_device *device, unsigned offset);
void fake_add_intx(struct fake_device *device, unsigned pin);
/** An expansion ROM: 55 AA, then bytes that fake_rom_byte tells. */
void fake_add_rom(struct fake_device *device, uint32_t bar_bytes, uint32_t image_bytes);
uint8_t fake_rom_byte(uint32_t offset);

/* Config space as the hardware holds it. */
uint32_t fake_config_get(const struct fake_device *device, unsigned offset, unsigned size_bytes);
void fake_config_set(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t value);
/** Lets writes change these bits of the hardware. */
void fake_config_writable(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t mask);

/* ---- Ready-made devices ---- */

#define FAKE_NVME_MSIX_VECTORS 65
#define FAKE_NVME_TABLE        0x2000 /* page 2 of BAR 0 */
#define FAKE_NVME_PBA          0x3000
#define FAKE_NVME_SRIOV        0x160
/** NVMe controller: BAR 0 of 16 KiB, MSI-X with 65 vectors, PM, MSI, PCIe, AER, SR-IOV, INTA, FLR. */
struct fake_device *fake_nvme(const char *bdf);
/** Conventional device with 256 bytes of config space: BAR 0 of 1 MiB, MSI with one 64-bit vector, INTA. */
struct fake_device *fake_edu(const char *bdf);
/** Conventional device with an I/O BAR of 32 ports, a memory BAR of 256 bytes and INTB, no capabilities. */
struct fake_device *fake_serial_card(const char *bdf);

enum fake_hostility {
	FAKE_CAPABILITIES_LOOP,   /* the capability list never ends */
	FAKE_EXTENDED_LOOP,       /* nor does the extended one */
	FAKE_CAPABILITY_BEYOND,   /* a capability that runs past its space's end */
	FAKE_TABLE_OUTSIDE_BAR,   /* MSI-X table beyond its BAR */
	FAKE_TABLE_IN_ABSENT_BAR, /* MSI-X table in a BAR that is not there */
	FAKE_TABLE_OVER_PBA,      /* table and PBA overlap */
	FAKE_COUNT_HUGE,          /* GET_IRQ_INFO claims 4 billion vectors */
	FAKE_HOSTILITIES,
};
/** An NVMe controller with one thing wrong. */
struct fake_device *fake_hostile(const char *bdf, enum fake_hostility hostility);

/* ---- What devices and people do ---- */

/** The device signals an MSI or MSI-X vector. @return whether an eventfd was signalled */
bool fake_fire(struct fake_device *device, unsigned vector);
/** The device asserts or deasserts INTx. */
void fake_intx(struct fake_device *device, bool asserted);
/** Has a function called when a BAR is written: what the device does then. */
void fake_on_bar_write(struct fake_device *device, void (*hook)(void *context, struct fake_device *device),
		       void *context);
/** Has a function called while the kernel is about to hot reset a device's slot or bus, which takes a second there. */
void fake_on_hot_reset(void (*hook)(void *context), void *context);
/** Somebody signals an eventfd of the library, such as the one by which INTx is unmasked. */
void fake_eventfd_signal(int fd);
/** Lets the kernel notice eventfds that were signalled towards it (INTx unmask). */
void fake_kernel_run(void);
/** Its state changes while it runs: so much more to save. */
void fake_state_changes(struct fake_device *device, unsigned bytes);
/** It writes a page of memory by DMA. @return false when it cannot */
bool fake_dma_write(struct fake_device *device, uint64_t iova);
/** The host saw an AER error / wants the device back. @return whether somebody listened */
bool fake_aer_error(struct fake_device *device);
bool fake_device_request(struct fake_device *device);

/* ---- What there is ---- */

unsigned fake_vectors_armed(const struct fake_device *device);
unsigned fake_ioas_count(void);
/** Page tables that the library asked for. */
unsigned fake_hwpt_count(void);
/** DMA mappings of all IOASes. */
unsigned fake_dma_mappings(void);
/** Whether a device may reach an address, in the IOAS it is attached to. */
bool fake_dma_reaches(const struct fake_device *device, uint64_t iova, bool write);
/** Whether all of a host address range is a mapped BAR (not just reserved). */
bool fake_host_memory_mapped(const void *address, size_t size_bytes);
/** Whether an address is still the library's: a mapped BAR or a reservation, so that nothing else can come to lie there. */
bool fake_address_space_kept(const void *address);
unsigned fake_open_files(void);

/** An open file that the hypervisor also holds: the kernel closes it only when both let go. */
bool fake_file_hold(int fd);
bool fake_file_release(int fd);
/** Has a function called when the library closes an fd, before it does. Adds up until the world is reset. */
void fake_on_close(void (*hook)(void *context, int fd), void *context);

/** First broken rule of the kernel's interface (an fd closed twice, memory unmapped that was not mapped), or "". */
const char *fake_misuse(void);
void fake_report_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Describes what is still open, mapped, armed or bound, or the first misuse; "" when all is clean. */
const char *fake_leftovers(void);

#endif
