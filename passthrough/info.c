// SPDX-License-Identifier: MIT
/* See info.h. Owns no state; what it is told by the kernel it does not believe beyond what it was given room for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "info.h"
#include "kernel.h"
#include "uapi.h"

#define BYTES_MAX 65536u /* a capability chain longer than this is not from a sane kernel */

int info_query(int fd, unsigned long request, const void *head, uint32_t head_bytes, uint8_t **out)
{
	uint32_t bytes = head_bytes, needed;
	uint8_t *info = NULL;
	for (;; bytes = needed) { /* it may need more by then, as devices come */
		uint8_t *larger = realloc(info, bytes);
		if (!larger) {
			free(info);
			return -ENOMEM;
		}
		info = larger;
		memset(info, 0, bytes);
		memcpy(info, head, head_bytes);
		memcpy(info, &bytes, sizeof(bytes)); /* argsz */
		int code = kernel_ioctl(fd, request, info);
		if (code < 0) {
			free(info);
			return code;
		}
		memcpy(&needed, info, sizeof(needed));
		if (needed <= bytes || needed > BYTES_MAX)
			break;
	}
	*out = info;
	return (int)bytes;
}

uint32_t info_capability(const uint8_t *info, uint32_t bytes, uint32_t head_bytes, uint32_t first, uint16_t id,
			 size_t size)
{
	uint32_t at = first;
	/* Each hop must move forward, so that a looping chain ends. */
	while (at >= head_bytes && at + sizeof(struct vfio_info_cap_header) <= bytes) {
		struct vfio_info_cap_header cap;
		memcpy(&cap, info + at, sizeof(cap));
		if (cap.id == id)
			return at + size <= bytes ? at : 0;
		if (cap.next <= at)
			break;
		at = cap.next;
	}
	return 0;
}
