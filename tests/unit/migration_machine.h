/* SPDX-License-Identifier: MIT */
/*
 * A machine without KVM, for tests of migration/: RAM that a thread writes all the time, devices that hold each other to the contract of
 * <tenon/migration.h>, and two parts. It knows whether its guest runs, and of all machines in a test which do.
 */
#ifndef MIGRATION_MACHINE_H
#define MIGRATION_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>

#include <tenon-migration/migrate.h>

#define MACHINE_RAM_BYTES (8u << 20)
#define MACHINE_PAGES     (MACHINE_RAM_BYTES / TENON_MIGRATION_PAGE_BYTES)
#define MACHINE_DEVICES   3
#define DEVICE_DATA_BYTES 300000u
#define LARGE_PART_BYTES  (3u << 20)

struct test_machine;

/* What a device is asked to fail: the n-th call of a kind. */
enum device_call { CALL_NONE, CALL_SET, CALL_READ, CALL_WRITE, CALL_PRE_COPY, CALL_SAVE, CALL_LOAD };

struct test_device {
	struct test_machine *machine;
	unsigned number;
	bool p2p, pre_copy, migratable;
	enum tenon_dirty_tracking dirty;
	_Atomic enum tenon_migration_state state;
	uint8_t data[DEVICE_DATA_BYTES]; /* what it is about */
	size_t data_bytes;               /* so much of it */
	size_t sent;                     /* of this session */
	size_t loaded;
	uint8_t incoming[DEVICE_DATA_BYTES];
	bool has_emulated;
	unsigned violations;
	enum device_call fail_call;
	unsigned fail_at; /* counts down */
};

/* How much there is of a machine. */
struct machine_shape {
	size_t device_bytes; /* of each device; at most DEVICE_DATA_BYTES */
	size_t large_bytes;  /* of its large part; at most LARGE_PART_BYTES */
	size_t zero_from;    /* pages behind so many of each RAM region are zero, but for the last one */
	uint32_t hot_pages;  /* the guest writes the first so many; 0: none */
};

struct test_machine {
	struct tenon_migration_machine what;
	size_t large_bytes;
	struct tenon_migration_ram ram[2];
	struct tenon_migratable list[MACHINE_DEVICES];
	struct test_device devices[MACHINE_DEVICES];
	unsigned device_count;
	uint8_t *memory; /* one mapping; two regions of it */
	pthread_t guest;
	bool has_guest;
	atomic_bool end;
	atomic_bool running;
	atomic_uint writes; /* of the guest, so far */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause, paused;
	uint64_t dirty[MACHINE_PAGES / 64];
	bool logging;
	uint32_t hot_pages; /* the guest writes the first so many; 0: none */
	unsigned parts_seen;
	const char *description;
	int fail_pause, fail_save, fail_load, fail_dirty; /* -errno */
};

/** @param source  it has a guest that runs, and memory that is not zero */
void machine_init(struct test_machine *machine, unsigned device_count, bool source);
/** Another one, as small as is said. */
void machine_init_small(struct test_machine *machine, unsigned device_count, bool source,
			const struct machine_shape *shape);
void machine_finish(struct test_machine *machine);
bool machine_runs(const struct test_machine *machine);
/** Both have the same memory and device data. Neither guest runs, or its writes have been stopped. */
bool machine_equal(const struct test_machine *one, const struct test_machine *other);
/** The guest runs, but writes no more. */
void machine_settle(struct test_machine *machine);
unsigned machine_violations(const struct test_machine *machine);

#endif
