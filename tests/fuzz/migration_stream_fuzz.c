/* SPDX-License-Identifier: MIT */
/*
 * Feeds a reader of migration streams whatever the input holds, each payload to what takes it: the messages' decoders, a part's collection,
 * and the receiver of RAM. Nothing may be read beyond a payload or written beyond RAM, no memory is taken that a stream only
 * claims, and whatever is refused has a reason.
 *
 * Input: a byte of choices (below), then the stream. Repaired, it has sums and numbers that are right, so that what is behind them is reached.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc32c.h"
#include "messages.h"
#include "ram.h"
#include "ram_layout.h"
#include "wire.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	CHOICE_REPAIR = 0x01,
	CHOICE_ATTACH = 0x02, /* pages are read to their place */
};

#define BYTES_MAX 65536u
#define REGIONS   2u

static const uint64_t region_pages[REGIONS] = {64, 3};
static struct tenon_migration_ram ram[REGIONS];
static struct stream_reader reader;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

/* Each region ends where its mapping does, and nothing is mapped behind it. */
static void map_region(unsigned region)
{
	size_t size = region_pages[region] * RAM_PAGE;
	uint8_t *memory = mmap(NULL, size + 2 * RAM_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(memory != MAP_FAILED && mprotect(memory + RAM_PAGE, size, PROT_READ | PROT_WRITE) == 0, "memory");
	ram[region] = (struct tenon_migration_ram){
		.gpa = 0x100000000ull * region, .size_bytes = size, .hva = memory + RAM_PAGE};
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (unsigned i = 0; i < REGIONS; i++)
		map_region(i);
	reader.payload = malloc(SECTION_BYTES_MAX);
	require(reader.payload != NULL, "memory");
	return 0;
}

static void repair(uint8_t *bytes, size_t size)
{
	size_t at = 0;
	for (uint32_t sequence = 0; at + SECTION_HEADER_BYTES <= size; sequence++) {
		uint8_t *header = bytes + at;
		size_t left = size - at - SECTION_HEADER_BYTES;
		uint32_t payload = wire_get32(header + 20);
		memcpy(header, "TNMS", 4);
		wire_put32(header + 16, sequence);
		if (payload <= left)
			wire_put32(header + 24, crc32c(0, header + SECTION_HEADER_BYTES, payload));
		wire_put32(header + 28, crc32c(0, header, 28));
		at += SECTION_HEADER_BYTES + (payload <= left ? payload : left);
	}
}

static struct tenon_channel *open_channel(const uint8_t *bytes, size_t size)
{
	struct tenon_channel *channel;
	char address[16];
	int fd = memfd_create("stream", MFD_CLOEXEC);
	require(write(fd, bytes, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0, "file");
	snprintf(address, sizeof(address), "fd:%d", fd);
	require(tenon_channel_open_file(address, &channel, NULL) == 0, "channel");
	return channel;
}

static int take_description(const uint8_t *payload, uint32_t bytes, struct tenon_error *err)
{
	const struct tenon_migration_machine machine = {.size = sizeof(machine), .ram = ram, .ram_count = REGIONS};
	struct description description;
	int code = description_decode(payload, bytes, &description, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < description.device_count; i++)
		require(strlen(description.devices[i]) < TENON_MIGRATION_NAME_MAX, "names end");
	const uint8_t *text = description.text;
	require(text >= payload && text + description.text_bytes == payload + bytes, "the text is the rest");
	return description_compare(&description, &machine, err);
}

static int take_part(struct part *part, const uint8_t *payload, uint32_t bytes, struct tenon_error *err)
{
	int code = part_collect(part, payload, bytes, err);
	require(part->have_bytes <= part->total_bytes && part->total_bytes <= PART_BYTES_MAX, "a part has its size");
	if (code == 1) {
		require(part->have_bytes == part->total_bytes && part->name[0], "a whole part is whole");
		part_finish(part);
	}
	return code < 0 ? code : 0;
}

static int take(struct ram_receiver *receiver, struct part *part, const struct section *section, const uint8_t *payload,
		struct tenon_error *err)
{
	const struct stream_reader exact = {.payload = (uint8_t *)payload};
	union {
		struct hello hello;
		struct end_counts end;
		struct verdict verdict;
		enum commit_answer answer;
		char text[MESSAGE_TEXT_BYTES];
	} out;
	switch (section->type) {
	case SECTION_HELLO:
		return hello_decode(payload, section->bytes, &out.hello, err);
	case SECTION_DESCRIPTION:
		return take_description(payload, section->bytes, err);
	case SECTION_PAGES:
	case SECTION_COMPRESSED:
	case SECTION_ZEROES:
		return ram_receiver_section(receiver, 0, &exact, section, err);
	case SECTION_ROUND:
		return ram_receiver_round(receiver, 0, err);
	case SECTION_PART:
		return take_part(part, payload, section->bytes, err);
	case SECTION_END:
		return end_decode(payload, section->bytes, &out.end, err);
	case SECTION_VERDICT:
		return verdict_decode(payload, section->bytes, &out.verdict, err);
	case SECTION_ANSWER:
		return answer_decode(payload, section->bytes, &out.answer, err);
	case SECTION_REFUSED:
	case SECTION_FAILED:
	case SECTION_ABORT:
		stream_text(&exact, section, out.text, sizeof(out.text));
		require(strlen(out.text) < sizeof(out.text), "a text ends");
		return 0;
	default:
		return message_empty(section, err);
	}
}

/* Goes on after a payload that was refused: more is reached so. */
static void read_stream(struct ram_receiver *receiver)
{
	struct part part = {0};
	struct section section;
	struct tenon_error err = {0};
	int code;
	while ((code = stream_read(&reader, &section, &err)) == 0) {
		/* Exactly as large as it is, so that AddressSanitizer sees a read past its end. */
		uint8_t *payload = malloc(section.bytes ? section.bytes : 1);
		memcpy(payload, reader.payload, section.bytes);
		err.message[0] = '\0';
		int taken = take(receiver, &part, &section, payload, &err);
		require(taken == 0 || (taken < 0 && err.message[0]), "a payload that is refused has a reason");
		if (taken < 0)
			part_finish(&part);
		free(payload);
		err.message[0] = '\0';
	}
	require((code == -EBADMSG || code == -ENODATA) && err.message[0], "a stream that ends has a reason");
	part_finish(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[BYTES_MAX];
	struct ram_receiver *receiver;
	if (size < 1 || size > BYTES_MAX)
		return 0;
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & CHOICE_REPAIR)
		repair(bytes, size - 1);
	reader.channel = open_channel(bytes, size - 1);
	reader.sequence = 0;
	reader.read_bytes = 0;
	require(ram_receiver_create(ram, REGIONS, 1, &receiver, NULL) == 0, "receiver");
	reader.place = NULL;
	if (data[0] & CHOICE_ATTACH)
		ram_receiver_attach(receiver, &reader);
	read_stream(receiver);
	require(reader.read_bytes <= size, "no more is read than there is");
	ram_receiver_destroy(receiver);
	tenon_channel_close(reader.channel);
	return 0;
}
