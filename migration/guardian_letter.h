/* SPDX-License-Identifier: MIT */
/* What a side sends to its guardian, once, with the descriptors; and what comes back. Both are of one build of one program. */
#ifndef GUARDIAN_LETTER_H
#define GUARDIAN_LETTER_H

#include <limits.h>

#include "guardian.h"

#define GUARDIAN_LETTER_MAGIC 0x74677564u
#define GUARDIAN_START_MS     10000
#define GUARDIAN_WORD_BYTES   4096u /* the shared page: the last phase, in its first 32 bits */
#define GUARDIAN_TLS_STRINGS  5u
#define GUARDIAN_TEXT_BYTES   PATH_MAX

/* The descriptors, in this order. The last only to a destination's. */
enum { LETTER_PIDFD, LETTER_WORD, LETTER_LISTENER, LETTER_FDS };

struct guardian_letter {
	uint32_t magic;
	uint32_t role;
	uint8_t session[COMMIT_SESSION_BYTES];
	uint32_t retry_ms, patience_ms;
	uint32_t timeout_ms, insecure; /* of the channel */
	char address[GUARDIAN_TEXT_BYTES];
	char tls[GUARDIAN_TLS_STRINGS]
		[GUARDIAN_TEXT_BYTES]; /* empty: NULL; in the order of struct tenon_channel_options */
};

struct guardian_reply {
	uint32_t magic;
	int32_t pid;
};

#endif
