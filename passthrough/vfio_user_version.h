/* SPDX-License-Identifier: MIT */
/*
 * The capabilities that both ends of a vfio-user socket exchange first, as JSON text. The text comes from another process
 * and is parsed as hostile.
 * Source: vfio-user Protocol Specification, "VFIO_USER_VERSION".
 */
#ifndef VFIO_USER_VERSION_H
#define VFIO_USER_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

struct vu_capabilities {
	uint64_t msg_fds;     /* most fds that the sender takes in one message */
	uint64_t data_bytes;  /* most data in one read or write */
	uint64_t dma_maps;    /* most windows at a time */
	uint64_t page_sizes;  /* a bit each */
	bool write_multiple;  /* takes VU_REGION_WRITE_MULTI */
	bool twin_socket;     /* the server's commands use a socket of their own */
	bool twin_fd_present; /* the reply says which fd that is */
	uint64_t twin_fd_index;
};

/** The longest text that vu_capabilities_format writes, its zero byte included. */
#define VU_CAPABILITIES_TEXT_MAX 384

/**
 * Reads the text of a version message; what it does not mention gets the specification's default.
 *
 * @param text   need not be terminated; empty text is allowed
 * @param bytes  with the terminating zero byte that the specification asks for, or without
 * @return 0; -EINVAL not JSON, or a known name has a value of the wrong kind (the message says which)
 */
int vu_capabilities_parse(const char *text, size_t bytes, struct vu_capabilities *out, struct tenon_error *err);

/** Writes the text, with its zero byte. @return bytes with it */
size_t vu_capabilities_format(const struct vu_capabilities *capabilities, char text[VU_CAPABILITIES_TEXT_MAX]);

#endif
