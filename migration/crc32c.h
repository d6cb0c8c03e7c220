/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli), as iSCSI and ext4 have it: of "123456789" it is 0xe3069283. */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/** @param crc  0, or that of the bytes before */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);

/**
 * Copies, and sums what it has copied: each byte is read once, so the sum is that of the copy, whoever writes to `from` meanwhile.
 */
uint32_t crc32c_copy(uint32_t crc, void *to, const void *from, size_t bytes);

/* One of the ways in which both are done; for tests. `to` may be NULL: only the sum. */
typedef uint32_t (*crc32c_fn)(uint32_t crc, void *to, const void *from, size_t bytes);

uint32_t crc32c_table(uint32_t crc, void *to, const void *from, size_t bytes);
#ifdef __x86_64__
uint32_t crc32c_narrow(uint32_t crc, void *to, const void *from, size_t bytes); /* AVX, PCLMULQDQ, SSE 4.2 */
uint32_t crc32c_wide(uint32_t crc, void *to, const void *from, size_t bytes);   /* AVX2 and VPCLMULQDQ, too */
#endif

#endif
