// SPDX-License-Identifier: MIT
/* Options of channels, from callers older or newer than this library: the rules of the kernel's copy_struct_from_user(). */
#include <errno.h>
#include <string.h>

#include "channel.h"

#define MIGRATION_TIMEOUT_MS 30000u
#define TIMEOUT_MS_DEFAULT   10000u
#define OPTIONS_BYTES_MAX    4096u
/* What the first version had. */
#define OPTIONS_BYTES_MIN                                                                                              \
	(offsetof(struct tenon_channel_options, timeout_ms) + sizeof(((struct tenon_channel_options *)0)->timeout_ms))

_Static_assert(sizeof(struct tenon_channel_options) ==
		       offsetof(struct tenon_channel_options, tls_peer_name) + sizeof(const char *),
	       "options must not end in padding");

static bool is_zero(const void *bytes, size_t count)
{
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < count; i++)
		if (byte[i])
			return false;
	return true;
}

int channel_options_take(const struct tenon_channel_options *options, struct tenon_channel_options *out,
			 struct tenon_error *err)
{
	*out = (struct tenon_channel_options){.size = sizeof(*out), .timeout_ms = TIMEOUT_MS_DEFAULT};
	if (!options)
		return 0;
	size_t size = options->size, known = size < sizeof(*out) ? size : sizeof(*out);
	if (size < OPTIONS_BYTES_MIN || size > OPTIONS_BYTES_MAX ||
	    !is_zero((const char *)options + known, size - known) ||
	    !is_zero(options->reserved, sizeof(options->reserved)))
		return tenon_fail(
			err, -EINVAL,
			"channel options: size or reserved bytes are wrong; set .size = sizeof(options), and the rest "
			"to zero");
	memcpy(out, options, known);
	out->size = sizeof(*out);
	if (out->timeout_ms == 0)
		out->timeout_ms = TIMEOUT_MS_DEFAULT;
	return 0;
}

struct tenon_channel_options channel_options_inside(const struct tenon_channel_options *options)
{
	struct tenon_channel_options inside = *options;
	if (!inside.size)
		inside.size = sizeof(inside);
	if (!inside.timeout_ms)
		inside.timeout_ms = MIGRATION_TIMEOUT_MS;
	return inside;
}
