/* SPDX-License-Identifier: MIT */
/* The fake kernel's inside: what its sources share. Tests include vfio_fake.h. */
#ifndef VFIO_MODEL_H
#define VFIO_MODEL_H

#include <sys/types.h>

#include "vfio_fake.h"

struct iommu_iova_range;
struct vfio_device_feature;

#define MODEL_DEVICES      16
#define MODEL_FDS          20000
#define MODEL_FILES        8192
#define MODEL_IOASES       8
#define MODEL_HWPTS        20
#define MODEL_DMA_MAPPINGS 80
#define MODEL_MEMORY       256
#define MODEL_HOOKS        8

enum file_kind {
	FILE_FREE,
	FILE_CDEV,
	FILE_IOMMUFD,
	FILE_EVENTFD,
	FILE_EPOLL,
	FILE_CONTAINER,
	FILE_GROUP,
	FILE_DEVICE, /* of a group */
	FILE_REGULAR,
	FILE_SOCKET,
	FILE_PASSED, /* came by a socket: memory, an eventfd, or another socket */
	FILE_TIMER,
	FILE_MIGRATION, /* a device's data */
};

/* An open file description. A real fd backs it, so that polling works and numbers do not clash with the process's own. */
struct fake_file {
	enum file_kind kind;
	unsigned fds;                /* the library's descriptors of it */
	unsigned holds;              /* the kernel's and the hypervisor's references */
	int real;                    /* stays open while anything refers to the file */
	struct fake_device *device;  /* FILE_CDEV, FILE_DEVICE, FILE_MIGRATION */
	struct fake_file *iommufd;   /* what a FILE_CDEV is bound to, or a FILE_DEVICE's group; held; NULL: not bound */
	int group;                   /* FILE_GROUP */
	struct fake_file *container; /* FILE_GROUP: held; NULL: none */
	uint32_t ioas; /* FILE_CONTAINER: its type1 IOMMU, 0: none yet; FILE_IOMMUFD: the compatibility IOAS, 0: none */
};

struct fake_ioas {
	uint32_t id; /* 0: free */
	struct fake_file *iommufd;
	unsigned attached;
	struct {
		uint64_t iova, length, user_va;
		bool writable;
		const struct fake_bar *bar; /* what is mapped is this, not RAM */
	} mappings[MODEL_DMA_MAPPINGS];
	unsigned mapping_count;
	bool tracked; /* a container's, by VFIO_IOMMU_DIRTY_PAGES */
	struct fake_pages written;
};

/* A page table with dirty bits. */
struct fake_hwpt {
	uint32_t id; /* 0: free */
	struct fake_ioas *ioas;
	unsigned iommu; /* whose devices it is for */
	unsigned attached;
	bool tracked;
	struct fake_pages written;
};

/* A range of the process's address space that the library reserved (bar NULL) or mapped. */
struct memory_range {
	uintptr_t start, end;
	const struct fake_bar *bar;
	struct fake_file *file; /* a mapping keeps its file open */
	bool blocked;           /* kept without access for good, on purpose: no leak */
};

struct world {
	struct fake_device *devices[MODEL_DEVICES];
	unsigned device_count;
	struct fake_file files[MODEL_FILES];
	struct fake_file *by_fd[MODEL_FDS];
	struct fake_ioas ioases[MODEL_IOASES];
	struct fake_hwpt hwpts[MODEL_HWPTS];
	uint32_t next_id;
	struct memory_range memory[MODEL_MEMORY];
	unsigned memory_count;
	bool no_iommufd, no_container, no_cdevs, no_iova_capability, bind_tokens;
	unsigned dma_entries;
	uint64_t dirty_page_bytes;
	struct {
		const char *path; /* NULL: none */
		const uint8_t *content;
		size_t size_bytes;
	} file; /* the one regular file */
	uint64_t memlock;
	struct {
		void (*hook)(void *context, int fd);
		void *context;
	} close_hooks[MODEL_HOOKS];
	unsigned close_hook_count;
	void (*hot_reset_hook)(void *context);
	void *hot_reset_context;
	char misuse[256];
};

extern struct world world;

/* vfio_calls.c: counts a call. @return 0, or the negative errno that a test asked for */
int model_calls_enter(enum fake_call kind);
void model_calls_reset(void);

/* vfio_files.c */
/** A descriptor of nothing in particular. */
int model_files_real_fd(void);
struct fake_file *model_files_add(enum file_kind kind, int real);
struct fake_file *model_files_of(int fd);
void model_files_hold(struct fake_file *file);
void model_files_release(struct fake_file *file);
void model_files_signal(const struct fake_file *file);

/* vfio_sysfs.c */
struct fake_device *model_sysfs_device_of_node(const char *path);
/** What VFIO calls a device: its address, or its UUID. */
const char *model_sysfs_name(const struct fake_device *device);
bool model_driver_is_vfio(const struct fake_device *device);

/* vfio_cdev.c */
int model_cdev_ioctl(struct fake_file *file, unsigned long request, void *argument, enum fake_call kind);
ssize_t model_cdev_read(struct fake_file *file, void *buffer, size_t size, uint64_t offset);
ssize_t model_cdev_write(struct fake_file *file, const void *buffer, size_t size, uint64_t offset);
int model_cdev_bar_of_map(struct fake_file *file, uint64_t offset, size_t size, struct fake_bar **bar);
void model_cdev_closed(struct fake_file *file);
/** What vfio_pci_core_enable() does when a device is opened, by whichever file. */
void model_cdev_enable(struct fake_device *device, struct fake_file *file);
/** Another member of the group has a driver that does DMA, or somebody else has the group. */
bool model_cdev_group_blocked(const struct fake_device *device);
/** What becoming its group's owner says. */
int model_cdev_claim_group(const struct fake_device *device);
/** @return -EAGAIN as often as a test asked for it */
int model_cdev_try_lock(struct fake_device *device);
/** What pci_try_reset_function does: the device forgets, its config space comes back. */
int model_cdev_reset_function(struct fake_device *device);
/** What a reset of any kind does to the hardware. */
void model_cdev_forget(struct fake_device *device);

/* vfio_migration.c */
int model_migration_feature(struct fake_device *device, struct vfio_device_feature *request);
ssize_t model_migration_read(struct fake_file *file, void *buffer, size_t size);
ssize_t model_migration_write(struct fake_file *file, const void *buffer, size_t size);
int model_migration_ioctl(struct fake_file *file, void *argument, enum fake_call kind);
void model_migration_closed(struct fake_file *file);
/** A reset, or a new user. */
void model_migration_reset(struct fake_device *device);
/** Reports an access to a region that the device's state forbids. */
void model_migration_accessed(const struct fake_device *device, bool config);

/** The driver takes its time. */
void model_migration_wait(struct fake_device *device);

/* vfio_dirty.c */
int model_logging_feature(struct fake_device *device, const struct vfio_device_feature *request);
int model_dirty_pages(struct fake_ioas *ioas, const void *argument);
int model_hwpt_set_tracking(struct fake_hwpt *hwpt, const void *argument);
int model_hwpt_get_dirty(struct fake_hwpt *hwpt, const void *argument);

/* vfio_hot_reset.c */
int model_hot_reset_info(struct fake_file *file, void *argument);
int model_hot_reset(struct fake_file *file, const void *argument);

/* vfio_config.c */
void model_config_bind(struct fake_device *device);
int model_config_read(struct fake_device *device, void *buffer, size_t size, uint64_t offset);
int model_config_write(struct fake_device *device, const void *buffer, size_t size, uint64_t offset);
void model_config_set_power(struct fake_device *device, unsigned state);
bool model_config_memory_enabled(const struct fake_device *device);

/* vfio_irqs.c */
int model_irqs_info(const struct fake_device *device, void *argument);
int model_irqs_set(struct fake_device *device, void *argument);
void model_irqs_closed(struct fake_device *device);
void model_irqs_intx_mask(struct fake_device *device);
void model_irqs_intx_unmask(struct fake_device *device);

/* vfio_iommufd.c */
int model_iommufd_ioctl(struct fake_file *file, unsigned long request, void *argument, enum fake_call kind);
void model_iommufd_closed(const struct fake_file *file);
int model_iommufd_attach_device(struct fake_device *device, uint32_t id);
void model_iommufd_detach_device(struct fake_device *device);

/* vfio_iommufd.c, for containers too: address spaces */
struct fake_ioas *model_ioas_add(struct fake_file *owner);
struct fake_ioas *model_ioas_of(const struct fake_file *owner, uint32_t id);
void model_ioas_remove(struct fake_ioas *ioas);
/** @return how many ranges there are; fills in `capacity` of them */
unsigned model_ioas_allowed(const struct fake_ioas *ioas, struct iommu_iova_range *out, unsigned capacity);
int model_ioas_attach(struct fake_ioas *ioas, struct fake_device *device);
int model_ioas_map(struct fake_ioas *ioas, uint64_t iova, uint64_t length, uint64_t user_va, bool writable);
/** @return bytes or -errno; a mapping is unmapped as a whole only */
int64_t model_ioas_unmap(struct fake_ioas *ioas, uint64_t iova, uint64_t length);
/** VFIO_DMA_CC_IOMMU */
int model_ioas_coherent(const struct fake_ioas *ioas);

/* vfio_memory.c: the BAR that is mapped at a host address, NULL: none */
const struct fake_bar *model_memory_bar(uint64_t address, uint64_t length);

/* vfio_group.c */
int model_group_open(int group);
int model_group_ioctl(struct fake_file *file, void *argument, enum fake_call kind);
void model_group_closed(struct fake_file *file);
/** Whether somebody has the file of a group open: then its devices' character devices cannot be bound. */
bool model_group_is_open(int group);
/** Checks what a user presents to open a device, NULL: no token. */
int model_group_match_token(struct fake_device *device, const uint8_t *uuid);
void model_group_count_vf(const struct fake_device *device, int change);

/* vfio_container.c */
int model_container_ioctl(struct fake_file *file, void *argument, enum fake_call kind);

#endif
