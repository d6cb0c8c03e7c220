/* SPDX-License-Identifier: MIT */
/* Guest memory at a vfio-user server: windows that it maps, or reaches by asking. */
#ifndef VFIO_USER_DMA_H
#define VFIO_USER_DMA_H

#include <tenon/space.h>

struct vu_socket;

/**
 * Tells the server of memory. With the region's file it maps it; without, or where devices may only read it (a file says nothing of
 * that), it asks for it.
 *
 * @return 0; the server's refusal as -errno; -ENOTCONN the connection is over, as it is after an answer that does not come in time,
 *         because then nobody knows what the server reaches
 */
int vu_dma_map(struct vu_socket *socket, const char *name, const struct tenon_space_region *region, unsigned timeout_ms,
	       struct tenon_error *err);

/** The server reaches it no more when this returns: one that refuses is cut off. */
void vu_dma_unmap(struct vu_socket *socket, uint64_t gpa, uint64_t size_bytes, unsigned timeout_ms);

#endif
