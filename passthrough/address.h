/* SPDX-License-Identifier: MIT */
/* From what a user typed (or the fd a caller passed) to one host device and its VFIO node. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdbool.h>

#include <tenon/error.h>

#define ADDRESS_BDF_BYTES  24 /* "0000:3b:00.0" and room */
#define ADDRESS_UUID_BYTES 37
#define ADDRESS_PATH_BYTES 64

#define ADDRESS_SOCKET       "vfio-user:"
#define ADDRESS_SOCKET_BYTES (sizeof(ADDRESS_SOCKET) + 108) /* sun_path */

struct address {
	char bdf[ADDRESS_BDF_BYTES];   /* normalised with its domain; "" when unknown (a passed fd without a path) */
	char uuid[ADDRESS_UUID_BYTES]; /* of a mediated device, which has no BDF; else "" */
	char path[ADDRESS_PATH_BYTES]; /* /dev/vfio/devices/vfioN; "" when unknown, or when the kernel makes none */
	int group;                     /* IOMMU group; -1: not known, or none */
	const char *name;              /* what to call the device in messages: points into this struct */
	/* With ADDRESS_SOCKET before the path of the socket of a device in another process, which has none of the above; else "" */
	char socket[ADDRESS_SOCKET_BYTES];
	char fallback_name[ADDRESS_PATH_BYTES];
};

/** Parses "[dddd:]bb:dd.f". @return false when the text is no BDF */
bool address_parse_bdf(const char *text, char bdf[ADDRESS_BDF_BYTES]);

/**
 * Finds a device by BDF, by the UUID of a mediated device, by the path of its character device, or by that of a vfio-user socket, which
 * is not looked for. Refuses one that no VFIO driver holds, with the command that binds it.
 */
int address_find(const char *text, struct address *out, struct tenon_error *err);

/** Finds what an open fd is. Never fails: an unknown origin leaves bdf and path empty. */
void address_of_fd(int fd, struct address *out);

/** Path of the socket of a device in another process; NULL: it is none. */
const char *address_of_socket(const struct address *address);

/** What VFIO calls the device within its group: the BDF or the UUID; "" when unknown. */
const char *address_of_device(const struct address *address);

#endif
