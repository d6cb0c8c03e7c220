/* SPDX-License-Identifier: MIT */
/*
 * Writes AML, the byte code of ACPI (ACPI Specification 6.4, chapter 20), in the shape of the ASL that it stands for:
 *
 *	AML_DEVICE(aml, "COM1")
 *	{
 *		aml_name(aml, "_HID", aml_eisa_id("PNP0501"));
 *		aml_name(aml, "_UID", aml_integer(0));
 *		AML_RESOURCES(aml, "_CRS")
 *		{
 *			aml_io(aml, 0x3f8, 8);
 *		}
 *	}
 *
 * Three kinds of things: a term is a small value (an operand or an expression) that a function returns; a statement is
 * a function that writes to the stream; a block is a macro with a body in braces, whose length is filled in when the
 * body ends. Never leave a body by break, goto or return: the block would stay open.
 *
 * Bytes that do not fit are dropped and remembered in aml.full, so that a caller checks once, at the end.
 * Threads: an aml belongs to one thread.
 */
#ifndef ACPI_AML_H
#define ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH_MAX      8 /* blocks inside blocks */
#define AML_TERM_BYTES_MAX 63

enum aml_block_kind {
	AML_BLOCK_PLAIN,     /* PkgLength, then the body */
	AML_BLOCK_PACKAGE,   /* PkgLength, count of elements, body */
	AML_BLOCK_RESOURCES, /* PkgLength, size of the buffer, descriptors, end tag */
};

struct aml_block {
	enum aml_block_kind kind;
	size_t body; /* where the body starts; its length goes before it once known */
	unsigned elements;
	bool entered;
};

struct aml {
	uint8_t *bytes; /* borrowed */
	size_t capacity;
	size_t used;
	bool full; /* something did not fit; the content is useless */
	struct aml_block blocks[AML_DEPTH_MAX];
	unsigned depth;
};

/* A complete term in its encoding. */
struct aml_term {
	uint8_t length;
	uint8_t bytes[AML_TERM_BYTES_MAX];
};

void aml_init(struct aml *aml, uint8_t *bytes, size_t capacity);

/* ---- Terms: operands ---- */

struct aml_term aml_integer(uint64_t value); /* in the shortest encoding */
struct aml_term aml_string(const char *text);
struct aml_term aml_eisa_id(const char *id); /* "PNP0A08", compressed to 32 bits (19.3.4) */
struct aml_term aml_uuid(const char *uuid);  /* a 16-byte buffer in the mixed order of ToUUID (19.6.142) */
struct aml_term aml_path(const char *path);  /* "CDW1", "^RP01", "\\_SB.PCI0"; short segments are padded with _ */
struct aml_term aml_arg(unsigned index);     /* Arg0 - Arg6 */
struct aml_term aml_local(unsigned index);   /* Local0 - Local7 */
struct aml_term aml_package_of(const struct aml_term *elements, unsigned count);
#define aml_package(...)                                                                                               \
	aml_package_of((const struct aml_term[]){__VA_ARGS__},                                                         \
		       sizeof((const struct aml_term[]){__VA_ARGS__}) / sizeof(struct aml_term))

/* ---- Terms: expressions ---- */

struct aml_term aml_not_equal(struct aml_term left, struct aml_term right);
struct aml_term aml_less(struct aml_term left, struct aml_term right);

/* ---- Statements ---- */

void aml_name(struct aml *aml, const char *name, struct aml_term value);
void aml_store(struct aml *aml, struct aml_term value, struct aml_term target);
/* target = value & bits; target |= bits */
void aml_and_into(struct aml *aml, struct aml_term target, struct aml_term value, uint64_t bits);
void aml_or_into(struct aml *aml, struct aml_term target, uint64_t bits);
void aml_create_dword_field(struct aml *aml, struct aml_term buffer, unsigned byte_offset, const char *name);
void aml_return(struct aml *aml, struct aml_term value);
void aml_element(struct aml *aml, struct aml_term value); /* inside AML_PACKAGE */

/* ---- Blocks ---- */

#define AML_SCOPE(aml, path)                  for (aml_open_scope(aml, path); aml_inside(aml);)
#define AML_DEVICE(aml, name)                 for (aml_open_device(aml, name); aml_inside(aml);)
#define AML_METHOD(aml, name, argument_count) for (aml_open_method(aml, name, argument_count); aml_inside(aml);)
#define AML_IF(aml, condition)                for (aml_open_if(aml, condition); aml_inside(aml);)
/* Name (name, Package () { ... }) with an aml_element per element, up to 255 */
#define AML_PACKAGE(aml, name) for (aml_open_package(aml, name); aml_inside(aml);)
/* Name (name, ResourceTemplate () { ... }) */
#define AML_RESOURCES(aml, name) for (aml_open_resources(aml, name); aml_inside(aml);)

void aml_open_scope(struct aml *aml, const char *path);
void aml_open_device(struct aml *aml, const char *name);
void aml_open_method(struct aml *aml, const char *name, unsigned argument_count); /* NotSerialized */
void aml_open_if(struct aml *aml, struct aml_term condition);
void aml_open_package(struct aml *aml, const char *name);
void aml_open_resources(struct aml *aml, const char *name);
bool aml_inside(struct aml *aml); /* true once per block, then closes it */

/* ---- Resource descriptors (section 6.4), inside AML_RESOURCES ---- */

/* What the device itself decodes */
void aml_io(struct aml *aml, uint16_t first_port, uint8_t count);              /* IO (Decode16, ...) */
void aml_memory32_fixed(struct aml *aml, uint32_t first, uint32_t size_bytes); /* Memory32Fixed (ReadWrite) */
void aml_interrupt(struct aml *aml, uint32_t gsi);                             /* edge, active high, exclusive */

/* What a bridge forwards to devices below it: fixed ranges, positively decoded */
void aml_bus_numbers(struct aml *aml, uint8_t first, uint8_t last);       /* WordBusNumber */
void aml_io_window(struct aml *aml, uint16_t first, uint16_t last);       /* WordIO */
void aml_memory32_window(struct aml *aml, uint32_t first, uint32_t last); /* DWordMemory */
void aml_memory64_window(struct aml *aml, uint64_t first, uint64_t last); /* QWordMemory */

#endif
