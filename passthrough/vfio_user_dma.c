// SPDX-License-Identifier: MIT
/*
 * VU_DMA_MAP and VU_DMA_UNMAP. What a server was told of memory must be known: where its answer is missing or makes no sense, the
 * connection ends. Source: vfio-user Protocol Specification, "VFIO_USER_DMA_MAP" and "VFIO_USER_DMA_UNMAP".
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "kernel.h"
#include "vfio_user_dma.h"
#include "vfio_user_socket.h"

/* Without reply payload, whatever servers put there. */
static int call(struct vu_socket *socket, struct vu_call *call, struct tenon_error *err)
{
	struct vu_dma_unmap reply;
	call->reply = &reply;
	call->reply_room = sizeof(reply);
	int code = vu_socket_call(socket, call, err);
	for (unsigned i = 0; i < call->reply_fd_count; i++)
		kernel_close(call->reply_fds[i]);
	return code;
}

int vu_dma_map(struct vu_socket *socket, const char *name, const struct tenon_space_region *region, unsigned timeout_ms,
	       struct tenon_error *err)
{
	uint64_t page = vu_socket_page_bytes(socket);
	if (page && (region->gpa | region->size_bytes) & (page - 1))
		return tenon_fail(
			err, -EINVAL,
			"%s: its server takes memory in units of 0x%llx bytes, and that at 0x%llx is not; lay "
			"memory out so, or update the server",
			name, (unsigned long long)page, (unsigned long long)region->gpa);
	bool shared = region->fd > 0 && !region->read_only && vu_socket_fds(socket) > 0;
	const struct vu_dma_map map = {
		.argsz = sizeof(map),
		.flags = VU_DMA_READABLE | (region->read_only ? 0 : VU_DMA_WRITEABLE),
		.offset = shared ? region->fd_offset : 0,
		.address = region->gpa,
		.bytes = region->size_bytes,
	};
	struct vu_call request = {
		.command = VU_DMA_MAP,
		.timeout_ms = timeout_ms,
		.request = {.head = &map, .head_bytes = sizeof(map), .fds = &region->fd, .fd_count = shared},
	};
	int code = call(socket, &request, err);
	if (code == -ETIMEDOUT) {
		vu_socket_end(socket, "it does not say whether it has mapped memory");
		return tenon_fail(err, -ENOTCONN,
				  "%s: its server does not say whether it has mapped memory; restart it", name);
	}
	if (code < 0 && code != -ENOTCONN)
		return tenon_fail(err, code,
				  "%s: its server does not take the guest memory at 0x%llx: %s; see what it says", name,
				  (unsigned long long)region->gpa, strerror(-code));
	return code;
}

void vu_dma_unmap(struct vu_socket *socket, uint64_t gpa, uint64_t size_bytes, unsigned timeout_ms)
{
	const struct vu_dma_unmap unmap = {.argsz = sizeof(unmap), .address = gpa, .bytes = size_bytes};
	struct vu_call request = {.command = VU_DMA_UNMAP,
				  .timeout_ms = timeout_ms,
				  .request = {.head = &unmap, .head_bytes = sizeof(unmap)}};
	int code = call(socket, &request, NULL);
	if (code < 0 && code != -ENOTCONN)
		vu_socket_end(socket, "it keeps memory that was taken from it");
}
