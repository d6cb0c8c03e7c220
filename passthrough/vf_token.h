/* SPDX-License-Identifier: MIT */
/* The UUID that the user of an SR-IOV PF and the users of its VFs share. */
#ifndef VF_TOKEN_H
#define VF_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#define UUID_TEXT_BYTES 37

struct vf_token {
	char text[UUID_TEXT_BYTES];
	uint8_t uuid[16]; /* in the order in which it is written */
};

/** Whether a text is a UUID: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12. */
bool uuid_parse(const char *text, uint8_t uuid[16]);

/** @param name  of the device, for messages */
int vf_token_parse(const char *text, const char *name, struct vf_token *out, struct tenon_error *err);

/**
 * Refuses a token for a device that has no use for one: the kernel's own refusal does not say which of its reasons it had.
 *
 * @param bdf  "": not known, and nothing is checked
 */
int vf_token_check(const char *bdf, struct tenon_error *err);

/**
 * Lists the VFs of a PF that VFIO drivers have, "0000:3b:10.0 (vfio-pci), ...": whoever uses them knows a token.
 *
 * @return how many; 0 also when it is no PF or not known
 */
unsigned vf_token_holders(const char *pf, char *text, size_t capacity);

/** Says that the kernel took this token, or none (NULL), for the wrong one. @return -EACCES */
int vf_token_refused(const struct vf_token *token, const char *name, struct tenon_error *err);

/** Sets the token of an open PF. A device that is no PF is left alone. */
int vf_token_set(int fd, const struct vf_token *token, const char *name, struct tenon_error *err);

#endif
