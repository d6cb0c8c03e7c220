/* SPDX-License-Identifier: MIT */
/*
 * A raw client for the test device: a server in a thread of the test, and messages that are exactly what the test wants
 * them to be. It answers the device's requests for memory while it waits for a reply. Every wait ends after PATIENCE_S.
 */
#ifndef TESTDEV_CLIENT_H
#define TESTDEV_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vfio_user_protocol.h>

#include "registers.h"
#include "testdev.h"

#define PATIENCE_S 20

/* The client's memory, where the device sees it. */
#define RAM_ADDRESS 0x100000ull
#define RAM_BYTES   0x400000ull

#define REPLY_BYTES_MAX (1100u * 1024)

struct client {
	struct testdev *device;
	struct testdev_options options;
	pthread_t thread;
	bool running;
	int result; /* of server_serve, after client_leave */
	int fd;     /* -1: closed */
	int twin;   /* -1: none */
	int stop;   /* eventfd that ends the server */
	int server_fd;
	uint16_t next_id;
	int ram_fd;
	uint8_t *ram;
	unsigned dma_reads, dma_writes; /* requests that were answered */
	int dma_error;                  /* errno that they are answered with; 0: none */
	bool dma_ignore;                /* they are not answered */
};

struct answer {
	struct vu_header header;
	size_t bytes;
	unsigned fd_count;
	int fds[VU_FDS_MAX];
	uint8_t payload[REPLY_BYTES_MAX];
};

extern struct answer answer; /* the last reply; its fds are closed before the next */

/** A device and a server for one connection, without a message yet. @param options  NULL: all defaults, quiet */
void client_start(struct client *client, const struct testdev_options *options);
/** The same, and the version is agreed on. */
void client_open(struct client *client, const struct testdev_options *options);
/** Ends the connection and waits for the server. @return what server_serve returned */
int client_leave(struct client *client);
/** A new connection to the same device, which keeps its state. */
void client_return(struct client *client);
/** Ends everything; fails the test when a file descriptor is left open. */
void client_close(struct client *client);

/** Agrees on a version with these capabilities (JSON). @return 0 or -errno of the reply */
int client_greet(struct client *client, const char *capabilities);

/** Sends bytes as they are. */
void client_send(struct client *client, const void *bytes, size_t count, const int *fds, unsigned fd_count);
/** Sends a message with a sound header. @return its id */
uint16_t client_post(struct client *client, uint16_t command, uint32_t flags, const void *payload, size_t bytes,
		     const int *fds, unsigned fd_count);
/** Receives the next reply into `answer`. @return 1; 0 the server closed the connection */
int client_receive(struct client *client);
/** Sends a command and waits for its reply. @return 0, -errno of the reply, or -ECONNRESET */
int client_call(struct client *client, uint16_t command, const void *payload, size_t bytes);
int client_call_fds(struct client *client, uint16_t command, const void *payload, size_t bytes, const int *fds,
		    unsigned fd_count);
/** Whether the connection still works: asks for the device's info. */
bool client_alive(struct client *client);
/** Waits until the server has ended the connection. @return whether it did */
bool client_dropped(struct client *client);

/* Regions; they fail the test when the access fails. */
uint64_t client_read(struct client *client, unsigned region, uint64_t offset, unsigned bytes);
void client_write(struct client *client, unsigned region, uint64_t offset, uint64_t value, unsigned bytes);
int client_access(struct client *client, uint16_t command, unsigned region, uint64_t offset, uint32_t count);
uint32_t reg(struct client *client, unsigned offset);
uint64_t reg64(struct client *client, unsigned offset);
void set_reg(struct client *client, unsigned offset, uint32_t value);
void set_reg64(struct client *client, unsigned offset, uint64_t value);

/** Memory decoding, I/O decoding and bus mastering on. */
void client_enable(struct client *client);

/** Maps the whole RAM. @param shared  with its file, else by messages */
void client_map_ram(struct client *client, bool shared);
int client_map(struct client *client, uint64_t address, uint64_t bytes, uint32_t flags, int fd, uint64_t offset);
int client_unmap(struct client *client, uint64_t address, uint64_t bytes, uint32_t flags);

/** Writes a descriptor into RAM, `index` of the list at RAM_ADDRESS. */
void client_descriptor(struct client *client, unsigned index, uint64_t source, uint64_t target, uint32_t length,
		       uint32_t flags);
/** Starts the list of so many descriptors and waits for its end. @return TD_STATUS */
uint32_t client_run_list(struct client *client, unsigned count);

/** Waits until the eventfd has a count, and takes it. @return the count */
uint64_t client_wait_eventfd(int fd);
/** What the eventfd has now; 0: nothing. */
uint64_t eventfd_take(int fd);
int eventfd_new(void);
int client_arm(struct client *client, unsigned kind, unsigned first, const int *fds, unsigned count);

int client_set_state(struct client *client, uint32_t state);
uint32_t client_state(struct client *client);

/** How often the journal has this kind, by the registers. */
unsigned client_violations(struct client *client, unsigned kind);

#endif
