// SPDX-License-Identifier: MIT
/* The text of --memory, and what a size must be. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define MIB           (UINT64_C(1) << 20)
#define GIB           (UINT64_C(1) << 30)
#define SMALL_GRANULE (2 * MIB)

static int parse_size(const char *text, const char **end, uint64_t *size_bytes, struct tenon_error *err)
{
	char *after = NULL;
	errno = 0;
	uint64_t number = strtoull(text, &after, 10);
	if (!isdigit((unsigned char)text[0]))
		return tenon_fail(err, -EINVAL, "memory '%s': does not start with a size; write it like 512M or 4G",
				  text);

	unsigned shift = 0;
	switch (*after) {
	case 'K':
	case 'k':
		shift = 10;
		break;
	case 'M':
	case 'm':
		shift = 20;
		break;
	case 'G':
	case 'g':
		shift = 30;
		break;
	case 'T':
	case 't':
		shift = 40;
		break;
	default:
		break;
	}
	if (shift)
		after++;
	if (*after != '\0' && *after != ',')
		return tenon_fail(err, -EINVAL, "memory '%s': unknown unit '%.*s'; units are K, M, G and T", text,
				  (int)strcspn(after, ","), after);
	/* A file's size is signed. */
	if (errno == ERANGE || number > (uint64_t)INT64_MAX >> shift)
		return tenon_fail(err, -EINVAL, "memory '%s': more than any host can map; give a size like 4G", text);

	*size_bytes = number << shift;
	*end = after;
	return 0;
}

static bool option_is(const char *option, size_t length, const char *name)
{
	return strlen(name) == length && memcmp(option, name, length) == 0;
}

static int parse_option(const char *text, const char *option, size_t length, struct memory_options *options,
			struct tenon_error *err)
{
	if (option_is(option, length, "prefault"))
		options->prefault = true;
	else if (option_is(option, length, "shared"))
		options->shared = true;
	else if (option_is(option, length, "hugepages=2M"))
		options->huge_page_bytes = 2 * MIB;
	else if (option_is(option, length, "hugepages=1G"))
		options->huge_page_bytes = GIB;
	else if (length >= 9 && memcmp(option, "hugepages", 9) == 0)
		return tenon_fail(err, -EINVAL,
				  "memory '%s': '%.*s' is no huge page size; use hugepages=2M or hugepages=1G", text,
				  (int)length, option);
	else
		return tenon_fail(err, -EINVAL,
				  "memory '%s': unknown option '%.*s'; options are hugepages=2M, hugepages=1G, "
				  "prefault and shared",
				  text, (int)length, option);
	return 0;
}

int memory_options_check(const struct memory_options *options, struct tenon_error *err)
{
	uint64_t huge = options->huge_page_bytes;
	uint64_t granule = huge ? huge : SMALL_GRANULE;

	if (huge && huge != 2 * MIB && huge != GIB)
		return tenon_fail(err, -EINVAL,
				  "memory: huge pages of %" PRIu64 " bytes: not a size of this CPU; use 2M or 1G",
				  huge);
	if (options->size_bytes == 0)
		return tenon_fail(err, -EINVAL, "memory: a guest cannot run in 0 bytes; give it a size like 512M");
	if (options->size_bytes > INT64_MAX - GIB)
		return tenon_fail(err, -EINVAL, "memory: %" PRIu64 " bytes: more than any host can map; give less",
				  options->size_bytes);
	if (options->size_bytes % granule)
		return tenon_fail(err, -EINVAL,
				  "memory: %" PRIu64 " bytes: not a multiple of %" PRIu64
				  "M%s; the next size is %" PRIu64 "M",
				  options->size_bytes, granule / MIB, huge ? ", the huge page size" : "",
				  (options->size_bytes / granule + 1) * granule / MIB);
	return 0;
}

int memory_options_parse(const char *text, struct memory_options *options, struct tenon_error *err)
{
	struct memory_options parsed = {0};
	const char *rest = text;
	int result = parse_size(text, &rest, &parsed.size_bytes, err);

	while (result == 0 && *rest == ',') {
		const char *option = rest + 1;
		size_t length = strcspn(option, ",");
		result = parse_option(text, option, length, &parsed, err);
		rest = option + length;
	}
	if (result == 0)
		result = memory_options_check(&parsed, err);
	if (result == 0)
		*options = parsed;
	return result;
}
