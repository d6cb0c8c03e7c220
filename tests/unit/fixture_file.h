/* SPDX-License-Identifier: MIT */
/*
 * Files that a released version has written and every later one must load: tests/fixtures/README.md.
 *
 * TENON_MAKE_FIXTURES=FOLDER in the environment of a test puts what this version writes into FOLDER. That is for a new version's files.
 */
#ifndef FIXTURE_FILE_H
#define FIXTURE_FILE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#define FIXTURE_BYTES_MAX 65536u

struct fixture_file {
	unsigned char data[FIXTURE_BYTES_MAX];
	size_t bytes;
};

static inline void fixture_path(char path[512], const char *name)
{
	snprintf(path, 512, "%s/%s", TENON_FIXTURES, name);
}

/** The whole file at this path. */
static inline void fixture_read_path(const char *path, struct fixture_file *out)
{
	FILE *file = fopen(path, "rb");
	cr_assert_not_null(file, "%s is missing", path);
	out->bytes = fread(out->data, 1, sizeof(out->data), file);
	cr_assert_eq(fgetc(file), EOF, "%s is too large for a fixture", path);
	fclose(file);
	cr_assert_gt(out->bytes, 0, "%s is empty", path);
}

/** @param name  with its version: "v1/serial" */
static inline void fixture_read(const char *name, struct fixture_file *out)
{
	char path[512];
	fixture_path(path, name);
	fixture_read_path(path, out);
}

/** Makes the file of this name out of what this version writes. @return false: nobody asked for it */
static inline bool fixture_make(const char *name, const void *data, size_t bytes)
{
	const char *folder = getenv("TENON_MAKE_FIXTURES");
	char path[512];
	if (!folder)
		return false;
	snprintf(path, sizeof(path), "%s/%s", folder, strrchr(name, '/') + 1);
	FILE *file = fopen(path, "wbx");
	cr_assert_not_null(file, "%s: cannot be made, or is there already", path);
	cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
	cr_assert_eq(fclose(file), 0);
	return true;
}

/** What this version writes of what the file is about: the same bytes, as long as it writes that version. */
static inline void fixture_expect_written(const char *name, const void *data, size_t bytes)
{
	static struct fixture_file kept;
	if (fixture_make(name, data, bytes))
		return;
	fixture_read(name, &kept);
	cr_assert_eq(bytes, kept.bytes, "%s has %zu bytes, and now %zu are written", name, kept.bytes, bytes);
	for (size_t at = 0; at < bytes; at++)
		cr_assert_eq(((const unsigned char *)data)[at], kept.data[at], "%s: byte %zu is written as another",
			     name, at);
}

#endif
