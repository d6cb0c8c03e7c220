/* SPDX-License-Identifier: MIT */
/*
 * The stream of a migration: sections, each with a type, a length and a CRC-32C, over a channel. docs/migration-stream.md has every
 * byte. What is read is untrusted: no length is believed beyond SECTION_BYTES_MAX, no section that is out of turn is handed out.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon-migration/channel.h>
#include <tenon/error.h>

#define STREAM_VERSION        1u
#define SECTION_BYTES_MAX     (1u << 20) /* of a payload */
#define SECTION_HEADER_BYTES  32u        /* before it */
#define SECTION_HEAD_BYTES    64u        /* of a payload, which `place` sees */
#define SECTION_FLAG_OPTIONAL 1u         /* a reader that does not know the type skips it */
#define STREAM_LANES_MAX      16u        /* connections of a migration; lane 0 carries everything but pages, too */

enum section_type {
	/* source to destination */
	SECTION_HELLO = 1,    /* first on every connection: version, session, lane, lanes, page size */
	SECTION_DESCRIPTION,  /* the machine, in the VMM's words; RAM layout; devices' names */
	SECTION_PAGES,        /* pages of a region: instance = region */
	SECTION_ZEROES,       /* pages that are zero */
	SECTION_ROUND,        /* all lanes meet here before what follows */
	SECTION_DEVICE_DATA,  /* instance = device */
	SECTION_DEVICE_STATE, /* what libtenon emulates of it */
	SECTION_PART,         /* a named part of the VMM's; large ones in several sections */
	SECTION_END,          /* all is sent; with the numbers of pages and bytes that must have come */
	SECTION_COMMIT,       /* the destination has the right to run */
	SECTION_DONE,         /* the source knows that it does */
	SECTION_ABORT,        /* the source runs; with a reason */
	SECTION_COMPRESSED,   /* PAGES in fewer bytes */
	/* destination to source */
	SECTION_WELCOME = 64, /* the machines are equal */
	SECTION_REFUSED,      /* with a reason */
	SECTION_INITIAL,      /* the destination has the devices' initial data */
	SECTION_READY,        /* everything is loaded, and it waits for COMMIT */
	SECTION_STARTED,      /* it runs */
	SECTION_FAILED,       /* it does not, and never will; with a reason */
	/* resolving, on a new connection, once the first is lost */
	SECTION_VERDICT = 96, /* session, and what the source, or what it left behind, has decided */
	SECTION_ANSWER,       /* whether the destination runs, or never will */
};

/** "pages" and the like; "unknown" for a number that is no type. */
const char *section_name(uint32_t type);

struct section {
	uint32_t type;
	uint32_t flags;
	uint32_t instance;
	uint32_t bytes; /* of the payload */
	bool placed; /* read: beyond SECTION_HEAD_BYTES it is where the reader's `place` said, and not in `payload` */
};

/* ---- Writing: one thread at a time ---- */

struct stream_writer {
	struct tenon_channel *channel; /* borrowed */
	uint32_t sequence;
	_Atomic uint64_t sent_bytes; /* read from any thread */
};

void stream_writer_init(struct stream_writer *writer, struct tenon_channel *channel);
/** Writes a section whose payload is these parts, together at most SECTION_BYTES_MAX; at most 64 parts. */
int stream_write(struct stream_writer *writer, enum section_type type, uint32_t flags, uint32_t instance,
		 const struct iovec *parts, unsigned count, struct tenon_error *err);
/** The same with the payload's CRC-32C, which the caller has. `parts` has one more in front, for the header. */
int stream_write_summed(struct stream_writer *writer, const struct section *section, uint32_t crc, struct iovec *parts,
			unsigned count, struct tenon_error *err);
int stream_write_bytes(struct stream_writer *writer, enum section_type type, uint32_t instance, const void *data,
		       size_t bytes, struct tenon_error *err);
/** A reason or another text; cut where it is longer than 500 bytes. */
int stream_write_text(struct stream_writer *writer, enum section_type type, const char *text, struct tenon_error *err);

/* ---- Reading: one thread at a time ---- */

struct stream_reader {
	struct tenon_channel *channel; /* borrowed */
	uint32_t sequence;
	int idle_ms; /* how long nothing may come between sections; 0: as long as the channel allows; -1: for ever */
	uint64_t read_bytes;
	uint8_t *payload; /* SECTION_BYTES_MAX; of the section in hand */
	/*
	 * Of a PAGES section whose head is in `payload`: where the rest is to be read to, which spares a copy; NULL: into `payload`, too. Its sum is
	 * checked only then: if it is wrong, what was written to is worth nothing. May be NULL.
	 */
	void *(*place)(void *context, const struct stream_reader *reader, const struct section *section);
	void *place_context;
};

int stream_reader_init(struct stream_reader *reader, struct tenon_channel *channel, struct tenon_error *err);
void stream_reader_finish(struct stream_reader *reader); /* accepts a zeroed struct */

/**
 * Reads the next section, checks it, and leaves its payload in `payload`. Unknown optional sections are passed over.
 *
 * @return 0; -ENODATA the channel ended between sections; -EBADMSG not a section, a checksum that is wrong, a section that is not known or
 *         out of turn, or an end in its middle; -ETIMEDOUT nothing came for so long; or the channel's error
 */
int stream_read(struct stream_reader *reader, struct section *out, struct tenon_error *err);

/** The payload as a text, bounded and made printable. */
void stream_text(const struct stream_reader *reader, const struct section *section, char *text, size_t capacity);

#endif
