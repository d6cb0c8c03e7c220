// SPDX-License-Identifier: MIT
/*
 * The encoding of AML: terms, blocks with their lengths, and resource descriptors. What the tables say is not decided
 * here.
 *
 * A block's length is encoded in 1 to 4 bytes in front of its body and is known only at the end, so closing a block
 * moves its body up. The shortest encoding is chosen everywhere: it is what a compiler would emit, and a test compares
 * the two.
 */
#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "aml.h"

/* Opcodes (table 20.4). Extended ones follow OP_EXTENDED. */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXTENDED = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_ARG0 = 0x68,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_OR = 0x7d,
	OP_CREATE_DWORD_FIELD = 0x8a,
	OP_NOT = 0x92,
	OP_EQUAL = 0x93,
	OP_LESS = 0x95,
	OP_IF = 0xa0,
	OP_RETURN = 0xa4,
	EXTENDED_DEVICE = 0x82,
};

static void term_append(struct aml_term *term, const void *bytes, size_t count)
{
	assert(term->length + count <= sizeof(term->bytes)); /* every caller's terms are constants of the tables */
	memcpy(term->bytes + term->length, bytes, count);
	term->length += (uint8_t)count;
}

static void term_append_op(struct aml_term *term, uint8_t op)
{
	term_append(term, &op, 1);
}

/* Little endian, as AML is. */
static void term_append_number(struct aml_term *term, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		term_append_op(term, (uint8_t)(value >> (8 * i)));
}

static void term_append_term(struct aml_term *term, struct aml_term other)
{
	term_append(term, other.bytes, other.length);
}

/* PkgLength (20.2.4) counts itself. @return its size in bytes */
static unsigned package_length(size_t body_bytes, uint8_t encoded[4])
{
	unsigned bytes = 1;
	while (bytes < 4 && body_bytes + bytes >= (bytes == 1 ? 1u << 6 : 1u << (4 + 8 * (bytes - 1))))
		bytes++;
	size_t length = body_bytes + bytes;
	if (bytes == 1) {
		encoded[0] = (uint8_t)length;
		return 1;
	}
	encoded[0] = (uint8_t)((bytes - 1) << 6 | (length & 0xf));
	for (unsigned i = 1; i < bytes; i++)
		encoded[i] = (uint8_t)(length >> (4 + 8 * (i - 1)));
	return bytes;
}

/* ---- Terms ---- */

struct aml_term aml_integer(uint64_t value)
{
	struct aml_term term = {0};
	if (value <= 1) {
		term_append_op(&term, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		term_append_op(&term, OP_BYTE);
		term_append_number(&term, value, 1);
	} else if (value <= UINT16_MAX) {
		term_append_op(&term, OP_WORD);
		term_append_number(&term, value, 2);
	} else if (value <= UINT32_MAX) {
		term_append_op(&term, OP_DWORD);
		term_append_number(&term, value, 4);
	} else {
		term_append_op(&term, OP_QWORD);
		term_append_number(&term, value, 8);
	}
	return term;
}

struct aml_term aml_string(const char *text)
{
	struct aml_term term = {0};
	term_append_op(&term, OP_STRING);
	term_append(&term, text, strlen(text) + 1);
	return term;
}

static unsigned hex_digit(char digit)
{
	assert(isxdigit((unsigned char)digit));
	return isdigit((unsigned char)digit) ? (unsigned)(digit - '0') : (unsigned)(toupper(digit) - 'A' + 10);
}

static uint8_t hex_byte(const char *digits)
{
	return (uint8_t)(hex_digit(digits[0]) << 4 | hex_digit(digits[1]));
}

struct aml_term aml_eisa_id(const char *id)
{
	assert(strlen(id) == 7);
	/* Three letters of five bits each, then four digits, most significant byte first. */
	unsigned vendor = (unsigned)(id[0] - '@') << 10 | (unsigned)(id[1] - '@') << 5 | (unsigned)(id[2] - '@');
	uint8_t bytes[4] = {(uint8_t)(vendor >> 8), (uint8_t)vendor, hex_byte(id + 3), hex_byte(id + 5)};
	struct aml_term term = {0};
	term_append_op(&term, OP_DWORD);
	term_append(&term, bytes, sizeof(bytes));
	return term;
}

struct aml_term aml_uuid(const char *uuid)
{
	/* Where each byte of the buffer stands in "aabbccdd-eeff-gghh-iijj-kkllmmnnoopp". */
	static const uint8_t position[16] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};
	assert(strlen(uuid) == 36);
	struct aml_term content = aml_integer(sizeof(position));
	for (unsigned i = 0; i < sizeof(position); i++)
		term_append_op(&content, hex_byte(uuid + position[i]));

	uint8_t length[4];
	struct aml_term term = {0};
	term_append_op(&term, OP_BUFFER);
	term_append(&term, length, package_length(content.length, length));
	term_append_term(&term, content);
	return term;
}

struct aml_term aml_path(const char *path)
{
	struct aml_term term = {0};
	for (; *path == '\\' || *path == '^'; path++)
		term_append_op(&term, (uint8_t)*path);

	unsigned segments = *path ? 1 : 0;
	for (const char *c = path; *c; c++)
		segments += *c == '.';
	if (segments == 0) {
		term_append_op(&term, OP_ZERO); /* the root, or a parent, alone */
	} else if (segments == 2) {
		term_append_op(&term, OP_DUAL_NAME);
	} else if (segments > 2) {
		term_append_op(&term, OP_MULTI_NAME);
		term_append_op(&term, (uint8_t)segments);
	}

	for (unsigned i = 0; i < segments; i++) {
		size_t length = strcspn(path, ".");
		assert(length >= 1 && length <= 4);
		char segment[4] = {'_', '_', '_', '_'};
		memcpy(segment, path, length);
		term_append(&term, segment, sizeof(segment));
		path += length + 1;
	}
	return term;
}

struct aml_term aml_arg(unsigned index)
{
	assert(index <= 6);
	return (struct aml_term){.length = 1, .bytes = {(uint8_t)(OP_ARG0 + index)}};
}

struct aml_term aml_local(unsigned index)
{
	assert(index <= 7);
	return (struct aml_term){.length = 1, .bytes = {(uint8_t)(OP_LOCAL0 + index)}};
}

struct aml_term aml_package_of(const struct aml_term *elements, unsigned count)
{
	struct aml_term content = {0};
	term_append_op(&content, (uint8_t)count);
	for (unsigned i = 0; i < count; i++)
		term_append_term(&content, elements[i]);

	uint8_t length[4];
	struct aml_term term = {0};
	term_append_op(&term, OP_PACKAGE);
	term_append(&term, length, package_length(content.length, length));
	term_append_term(&term, content);
	return term;
}

static struct aml_term binary(uint8_t op, struct aml_term left, struct aml_term right)
{
	struct aml_term term = {0};
	term_append_op(&term, op);
	term_append_term(&term, left);
	term_append_term(&term, right);
	return term;
}

static struct aml_term equal(struct aml_term left, struct aml_term right)
{
	return binary(OP_EQUAL, left, right);
}

struct aml_term aml_not_equal(struct aml_term left, struct aml_term right)
{
	struct aml_term term = {0};
	term_append_op(&term, OP_NOT);
	term_append_term(&term, equal(left, right));
	return term;
}

struct aml_term aml_less(struct aml_term left, struct aml_term right)
{
	return binary(OP_LESS, left, right);
}

/* ---- The stream ---- */

void aml_init(struct aml *aml, uint8_t *bytes, size_t capacity)
{
	*aml = (struct aml){.bytes = bytes, .capacity = capacity};
}

static void emit(struct aml *aml, const void *bytes, size_t count)
{
	if (aml->full || count > aml->capacity - aml->used) {
		aml->full = true;
		return;
	}
	memcpy(aml->bytes + aml->used, bytes, count);
	aml->used += count;
}

static void emit_op(struct aml *aml, uint8_t op)
{
	emit(aml, &op, 1);
}

static void emit_number(struct aml *aml, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		emit_op(aml, (uint8_t)(value >> (8 * i)));
}

static void emit_term(struct aml *aml, struct aml_term term)
{
	emit(aml, term.bytes, term.length);
}

void aml_name(struct aml *aml, const char *name, struct aml_term value)
{
	emit_op(aml, OP_NAME);
	emit_term(aml, aml_path(name));
	emit_term(aml, value);
}

void aml_store(struct aml *aml, struct aml_term value, struct aml_term target)
{
	emit_op(aml, OP_STORE);
	emit_term(aml, value);
	emit_term(aml, target);
}

void aml_and_into(struct aml *aml, struct aml_term target, struct aml_term value, uint64_t bits)
{
	emit_term(aml, binary(OP_AND, value, aml_integer(bits)));
	emit_term(aml, target);
}

void aml_or_into(struct aml *aml, struct aml_term target, uint64_t bits)
{
	emit_term(aml, binary(OP_OR, target, aml_integer(bits)));
	emit_term(aml, target);
}

void aml_create_dword_field(struct aml *aml, struct aml_term buffer, unsigned byte_offset, const char *name)
{
	emit_op(aml, OP_CREATE_DWORD_FIELD);
	emit_term(aml, buffer);
	emit_term(aml, aml_integer(byte_offset));
	emit_term(aml, aml_path(name));
}

void aml_return(struct aml *aml, struct aml_term value)
{
	emit_op(aml, OP_RETURN);
	emit_term(aml, value);
}

void aml_element(struct aml *aml, struct aml_term value)
{
	assert(aml->depth && aml->blocks[aml->depth - 1].kind == AML_BLOCK_PACKAGE);
	aml->blocks[aml->depth - 1].elements++;
	emit_term(aml, value);
}

/* ---- Blocks ---- */

static void block_open(struct aml *aml, enum aml_block_kind kind)
{
	assert(aml->depth < AML_DEPTH_MAX);
	aml->blocks[aml->depth++] = (struct aml_block){.kind = kind, .body = aml->used};
}

/* Puts the length, and what else the kind of block has there, in front of the body. */
static void block_close(struct aml *aml)
{
	struct aml_block block = aml->blocks[--aml->depth];
	struct aml_term inner = {0};
	if (block.kind == AML_BLOCK_PACKAGE) {
		assert(block.elements <= UINT8_MAX);
		term_append_op(&inner, (uint8_t)block.elements);
	} else if (block.kind == AML_BLOCK_RESOURCES) {
		emit_number(aml, 0x79, 2); /* end tag; checksum 0 stands for "treat as correct" (6.4.2.9) */
		inner = aml_integer(aml->used - block.body);
	}

	size_t body_bytes = aml->used - block.body;
	uint8_t length[4];
	struct aml_term front = {0};
	term_append(&front, length, package_length(inner.length + body_bytes, length));
	term_append_term(&front, inner);

	emit_term(aml, front); /* makes room, or finds that there is none */
	if (aml->full)
		return;
	memmove(aml->bytes + block.body + front.length, aml->bytes + block.body, body_bytes);
	memcpy(aml->bytes + block.body, front.bytes, front.length);
}

bool aml_inside(struct aml *aml)
{
	assert(aml->depth);
	struct aml_block *block = &aml->blocks[aml->depth - 1];
	if (block->entered) {
		block_close(aml);
		return false;
	}
	block->entered = true;
	return true;
}

void aml_open_scope(struct aml *aml, const char *path)
{
	emit_op(aml, OP_SCOPE);
	block_open(aml, AML_BLOCK_PLAIN);
	emit_term(aml, aml_path(path));
}

void aml_open_device(struct aml *aml, const char *name)
{
	emit_op(aml, OP_EXTENDED);
	emit_op(aml, EXTENDED_DEVICE);
	block_open(aml, AML_BLOCK_PLAIN);
	emit_term(aml, aml_path(name));
}

void aml_open_method(struct aml *aml, const char *name, unsigned argument_count)
{
	assert(argument_count <= 7);
	emit_op(aml, OP_METHOD);
	block_open(aml, AML_BLOCK_PLAIN);
	emit_term(aml, aml_path(name));
	emit_op(aml, (uint8_t)argument_count); /* method flags: bits 0-2 */
}

void aml_open_if(struct aml *aml, struct aml_term condition)
{
	emit_op(aml, OP_IF);
	block_open(aml, AML_BLOCK_PLAIN);
	emit_term(aml, condition);
}

void aml_open_package(struct aml *aml, const char *name)
{
	emit_op(aml, OP_NAME);
	emit_term(aml, aml_path(name));
	emit_op(aml, OP_PACKAGE);
	block_open(aml, AML_BLOCK_PACKAGE);
}

void aml_open_resources(struct aml *aml, const char *name)
{
	emit_op(aml, OP_NAME);
	emit_term(aml, aml_path(name));
	emit_op(aml, OP_BUFFER);
	block_open(aml, AML_BLOCK_RESOURCES);
}

/* ---- Resource descriptors ---- */

void aml_io(struct aml *aml, uint16_t first_port, uint8_t count)
{
	emit_op(aml, 0x47); /* I/O Port Descriptor (6.4.2.5) */
	emit_op(aml, 0x01); /* Decode16 */
	emit_number(aml, first_port, 2);
	emit_number(aml, first_port, 2);
	emit_op(aml, 1); /* alignment: the range does not move */
	emit_op(aml, count);
}

void aml_memory32_fixed(struct aml *aml, uint32_t first, uint32_t size_bytes)
{
	emit_op(aml, 0x86); /* 32-Bit Fixed Memory Range Descriptor (6.4.3.4) */
	emit_number(aml, 9, 2);
	emit_op(aml, 0x01); /* ReadWrite */
	emit_number(aml, first, 4);
	emit_number(aml, size_bytes, 4);
}

void aml_interrupt(struct aml *aml, uint32_t gsi)
{
	emit_op(aml, 0x89); /* Extended Interrupt Descriptor (6.4.3.6) */
	emit_number(aml, 6, 2);
	emit_op(aml, 0x03); /* consumer, edge, active high, exclusive */
	emit_op(aml, 1);
	emit_number(aml, gsi, 4);
}

enum address_space {
	ADDRESS_MEMORY = 0,
	ADDRESS_IO = 1,
	ADDRESS_BUS = 2,
};

/* Word, DWord and QWord Address Space Descriptors (6.4.3.5) differ in the width of their five numbers. */
static void address_window(struct aml *aml, enum address_space space, unsigned width, uint64_t first, uint64_t last)
{
	static const uint8_t type_flags[] = {
		[ADDRESS_MEMORY] = 0x01, /* ReadWrite, NonCacheable: also takes BARs that are not prefetchable */
		[ADDRESS_IO] = 0x03,     /* EntireRange */
		[ADDRESS_BUS] = 0x00,
	};
	emit_op(aml, width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a);
	emit_number(aml, 3 + 5 * width, 2);
	emit_op(aml, space);
	emit_op(aml, 0x0c); /* producer, PosDecode, MinFixed, MaxFixed */
	emit_op(aml, type_flags[space]);
	emit_number(aml, 0, width); /* granularity */
	emit_number(aml, first, width);
	emit_number(aml, last, width);
	emit_number(aml, 0, width); /* translation */
	emit_number(aml, last - first + 1, width);
}

void aml_bus_numbers(struct aml *aml, uint8_t first, uint8_t last)
{
	address_window(aml, ADDRESS_BUS, 2, first, last);
}

void aml_io_window(struct aml *aml, uint16_t first, uint16_t last)
{
	address_window(aml, ADDRESS_IO, 2, first, last);
}

void aml_memory32_window(struct aml *aml, uint32_t first, uint32_t last)
{
	address_window(aml, ADDRESS_MEMORY, 4, first, last);
}

void aml_memory64_window(struct aml *aml, uint64_t first, uint64_t last)
{
	address_window(aml, ADDRESS_MEMORY, 8, first, last);
}
