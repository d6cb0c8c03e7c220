/* SPDX-License-Identifier: MIT */
/*
 * VFIO's queries whose answer is a struct with a chain of capabilities behind it (include/uapi/linux/vfio.h, struct
 * vfio_info_cap_header): of a region, of a container.
 */
#ifndef INFO_H
#define INFO_H

#include <stddef.h>
#include <stdint.h>

/**
 * Asks, and asks again with as much room as the kernel says that it needs.
 *
 * @param head  the argument, whose first field is argsz; only its fixed part
 * @param out   the answer, owned by the caller: free(); nothing on failure
 * @return its size in bytes, at least `head_bytes`; -ENOMEM; or the kernel's error
 */
int info_query(int fd, unsigned long request, const void *head, uint32_t head_bytes, uint8_t **out);

/**
 * Finds a capability of at least `size` bytes.
 *
 * @param first  the answer's cap_offset; 0 where its flags tell of no capabilities
 * @return its offset, 0: none
 */
uint32_t info_capability(const uint8_t *info, uint32_t bytes, uint32_t head_bytes, uint32_t first, uint16_t id,
			 size_t size);

#endif
