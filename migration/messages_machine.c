// SPDX-License-Identifier: MIT
/* The payloads whose size depends on the machine: DESCRIPTION, and PART in its pieces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"
#include "wire.h"

#define DESCRIPTION_HEAD_BYTES 16u /* RAM regions, devices, bytes of text, zero */
#define RAM_BYTES              16u
#define PART_HEAD_BYTES        (TENON_MIGRATION_NAME_MAX + 24u) /* name, version, zero, total bytes, offset */
#define PIECE_BYTES            (SECTION_BYTES_MAX - PART_HEAD_BYTES)

/* Printable, not empty, with nothing behind its end. */
static bool is_name(const uint8_t *name)
{
	size_t length = strnlen((const char *)name, TENON_MIGRATION_NAME_MAX);
	if (!length || length == TENON_MIGRATION_NAME_MAX)
		return false;
	for (size_t i = 0; i < TENON_MIGRATION_NAME_MAX; i++) {
		if (i < length ? name[i] < 0x20 || name[i] > 0x7e : name[i])
			return false;
	}
	return true;
}

int description_write(struct stream_writer *writer, const struct tenon_migration_machine *machine, const void *text,
		      size_t text_bytes, struct tenon_error *err)
{
	uint8_t head[DESCRIPTION_HEAD_BYTES + RAM_BYTES * TENON_MIGRATION_RAM +
		     TENON_MIGRATION_NAME_MAX * TENON_MIGRATION_DEVICES] = {0};
	uint8_t *at = head + DESCRIPTION_HEAD_BYTES;
	if (machine->ram_count > TENON_MIGRATION_RAM || machine->device_count > TENON_MIGRATION_DEVICES ||
	    text_bytes > SECTION_BYTES_MAX - sizeof(head))
		return tenon_fail(err, -EINVAL,
				  "a machine of %u RAM regions, %u devices and a description of %zu bytes is too large "
				  "to migrate",
				  machine->ram_count, machine->device_count, text_bytes);
	wire_put32(head, machine->ram_count);
	wire_put32(head + 4, machine->device_count);
	wire_put32(head + 8, (uint32_t)text_bytes);
	for (unsigned i = 0; i < machine->ram_count; i++, at += RAM_BYTES) {
		wire_put64(at, machine->ram[i].gpa);
		wire_put64(at + 8, machine->ram[i].size_bytes);
	}
	for (unsigned i = 0; i < machine->device_count; i++, at += TENON_MIGRATION_NAME_MAX)
		memcpy(at, machine->devices[i].name, strnlen(machine->devices[i].name, TENON_MIGRATION_NAME_MAX - 1));
	const struct iovec parts[] = {{.iov_base = head, .iov_len = (size_t)(at - head)},
				      {.iov_base = (void *)text, .iov_len = text_bytes}};
	return stream_write(writer, SECTION_DESCRIPTION, 0, 0, parts, text_bytes ? 2 : 1, err);
}

static int decode_ram(const uint8_t *at, struct description *out, unsigned index, struct tenon_error *err)
{
	uint64_t gpa = wire_get64(at), size_bytes = wire_get64(at + 8);
	if (!size_bytes || (gpa | size_bytes) % TENON_MIGRATION_PAGE_BYTES || gpa + size_bytes < gpa)
		return tenon_fail(err, -EBADMSG, "migration stream: RAM of 0x%llx bytes at 0x%llx is not possible",
				  (unsigned long long)size_bytes, (unsigned long long)gpa);
	for (unsigned i = 0; i < index; i++) {
		if (gpa < out->ram[i].gpa + out->ram[i].size_bytes && out->ram[i].gpa < gpa + size_bytes)
			return tenon_fail(err, -EBADMSG, "migration stream: RAM regions %u and %u overlap", i, index);
	}
	out->ram[index].gpa = gpa;
	out->ram[index].size_bytes = size_bytes;
	return 0;
}

int description_decode(const void *payload, size_t bytes, struct description *out, struct tenon_error *err)
{
	const uint8_t *at = payload;
	uint32_t ram = 0, devices = 0, text = 0, zero = 1;
	*out = (struct description){0};
	if (bytes >= DESCRIPTION_HEAD_BYTES) {
		ram = wire_get32(at);
		devices = wire_get32(at + 4);
		text = wire_get32(at + 8);
		zero = wire_get32(at + 12);
	}
	if (zero || ram > TENON_MIGRATION_RAM || devices > TENON_MIGRATION_DEVICES ||
	    bytes != DESCRIPTION_HEAD_BYTES + ram * RAM_BYTES + devices * TENON_MIGRATION_NAME_MAX + (uint64_t)text)
		return tenon_fail(
			err, -EBADMSG,
			"migration stream: a description of %u RAM regions, %u devices and %u bytes has %zu bytes", ram,
			devices, text, bytes);
	at += DESCRIPTION_HEAD_BYTES;
	for (unsigned i = 0; i < ram; i++, at += RAM_BYTES) {
		int code = decode_ram(at, out, i, err);
		if (code < 0)
			return code;
	}
	for (unsigned i = 0; i < devices; i++, at += TENON_MIGRATION_NAME_MAX) {
		if (!is_name(at))
			return tenon_fail(err, -EBADMSG, "migration stream: device %u has no proper name", i);
		memcpy(out->devices[i], at, TENON_MIGRATION_NAME_MAX);
	}
	out->ram_count = ram;
	out->device_count = devices;
	out->text = at;
	out->text_bytes = text;
	return 0;
}

int description_compare(const struct description *description, const struct tenon_migration_machine *machine,
			struct tenon_error *err)
{
	if (description->ram_count != machine->ram_count)
		return tenon_fail(err, -EINVAL,
				  "the source has %u RAM regions, and this machine %u; give both the same memory",
				  description->ram_count, machine->ram_count);
	for (unsigned i = 0; i < machine->ram_count; i++) {
		const struct tenon_migration_ram *ram = &machine->ram[i];
		if (description->ram[i].gpa != ram->gpa || description->ram[i].size_bytes != ram->size_bytes)
			return tenon_fail(err, -EINVAL,
					  "RAM region %u: the source has 0x%llx bytes at 0x%llx, and this machine "
					  "0x%llx at 0x%llx; give both the same memory",
					  i, (unsigned long long)description->ram[i].size_bytes,
					  (unsigned long long)description->ram[i].gpa,
					  (unsigned long long)ram->size_bytes, (unsigned long long)ram->gpa);
	}
	if (description->device_count > machine->device_count)
		return tenon_fail(err, -EINVAL, "the source has %u devices, and this machine %u: %s is missing",
				  description->device_count, machine->device_count,
				  description->devices[machine->device_count]);
	if (description->device_count < machine->device_count)
		return tenon_fail(err, -EINVAL, "the source has %u devices, and this machine %u: %s is too many",
				  description->device_count, machine->device_count,
				  machine->devices[description->device_count].name);
	return 0;
}

int part_write(struct stream_writer *writer, const char *name, uint32_t version, const void *data, size_t bytes,
	       struct tenon_error *err)
{
	uint8_t head[PART_HEAD_BYTES] = {0};
	size_t length = strnlen(name, TENON_MIGRATION_NAME_MAX);
	if (length < TENON_MIGRATION_NAME_MAX)
		memcpy(head, name, length);
	if (!is_name(head) || bytes > PART_BYTES_MAX)
		return tenon_fail(err, -EINVAL,
				  "part \"%.63s\" of %zu bytes cannot be sent: a name has 1 to 63 characters, a part "
				  "at most %u bytes",
				  name, bytes, PART_BYTES_MAX);
	wire_put32(head + TENON_MIGRATION_NAME_MAX, version);
	wire_put64(head + TENON_MIGRATION_NAME_MAX + 8, bytes);
	size_t offset = 0;
	do {
		size_t piece = bytes - offset < PIECE_BYTES ? bytes - offset : PIECE_BYTES;
		wire_put64(head + TENON_MIGRATION_NAME_MAX + 16, offset);
		const struct iovec parts[] = {{.iov_base = head, .iov_len = sizeof(head)},
					      {.iov_base = (uint8_t *)data + offset, .iov_len = piece}};
		int code = stream_write(writer, SECTION_PART, 0, 0, parts, piece ? 2 : 1, err);
		if (code < 0)
			return code;
		offset += piece;
	} while (offset < bytes);
	return 0;
}

static int part_begin(struct part *part, const uint8_t *head, struct tenon_error *err)
{
	uint64_t total = wire_get64(head + TENON_MIGRATION_NAME_MAX + 8);
	if (total > PART_BYTES_MAX)
		return tenon_fail(err, -EBADMSG,
				  "migration stream: part \"%s\" has %llu bytes, more than the %u that are allowed",
				  (const char *)head, (unsigned long long)total, PART_BYTES_MAX);
	/* Memory that is not written to is not taken: the total may claim what never comes. */
	uint8_t *data = malloc(total ? total : 1);
	if (!data)
		return tenon_fail(err, -ENOMEM, "no memory for part \"%s\" of %llu bytes", (const char *)head,
				  (unsigned long long)total);
	*part = (struct part){.version = wire_get32(head + TENON_MIGRATION_NAME_MAX),
			      .total_bytes = (size_t)total,
			      .data = data,
			      .begun = true};
	memcpy(part->name, head, sizeof(part->name));
	return 0;
}

int part_collect(struct part *part, const void *payload, size_t bytes, struct tenon_error *err)
{
	const uint8_t *head = payload;
	if (bytes < PART_HEAD_BYTES || !is_name(head) || wire_get32(head + TENON_MIGRATION_NAME_MAX + 4))
		return tenon_fail(err, -EBADMSG, "migration stream: a part without a proper name");
	int code = part->begun ? 0 : part_begin(part, head, err);
	if (code < 0)
		return code;
	size_t piece = bytes - PART_HEAD_BYTES;
	if (memcmp(head, part->name, sizeof(part->name)) != 0 ||
	    wire_get32(head + TENON_MIGRATION_NAME_MAX) != part->version ||
	    wire_get64(head + TENON_MIGRATION_NAME_MAX + 8) != part->total_bytes ||
	    wire_get64(head + TENON_MIGRATION_NAME_MAX + 16) != part->have_bytes ||
	    piece > part->total_bytes - part->have_bytes || (!piece && part->total_bytes))
		return tenon_fail(err, -EBADMSG, "migration stream: a piece of part \"%s\" is missing or wrong",
				  part->name);
	memcpy(part->data + part->have_bytes, head + PART_HEAD_BYTES, piece);
	part->have_bytes += piece;
	return part->have_bytes == part->total_bytes;
}

void part_finish(struct part *part)
{
	free(part->data);
	*part = (struct part){0};
}
