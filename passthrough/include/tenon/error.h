/* SPDX-License-Identifier: MIT */
/*
 * Errors of libtenon, and of everything that is built on it.
 *
 * A function that can fail returns 0 (or a count) on success and a negative errno value on failure, and takes a
 * struct tenon_error as its last parameter. The struct belongs to the caller, may be NULL, and is untouched on success.
 * A message is one line without a full stop: "object: what failed: cause; what to do".
 *
 * Thread safety: an error is plain memory; do not share one between threads.
 */
#ifndef TENON_ERROR_H
#define TENON_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_error {
	int code;          /* negative errno value, as returned */
	char message[508]; /* one line, always terminated */
};

/**
 * Records a failure and returns its code, so that failing is one expression: return tenon_fail(err, -EBUSY, "...").
 *
 * @param err   where to record it; may be NULL
 * @param code  negative errno value
 * @param format  printf format of the message; a message that is too long is cut
 * @return code
 */
int tenon_fail(struct tenon_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/**
 * Prepends context to a failure that a callee recorded in err: "<context>: <what err said>".
 *
 * @return the code that err holds, or -EINVAL when err is NULL or empty; pass the callee's return value on instead then
 */
int tenon_fail_wrap(struct tenon_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
