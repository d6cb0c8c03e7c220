/* SPDX-License-Identifier: MIT */
/*
 * Finding out who runs, on connections of their own at the destination's listener: VERDICT and ANSWER. The asker is a source or its guardian,
 * the one that answers a destination or its guardian.
 *
 * VERDICT: session (16 bytes), verdict (32 bits, little-endian). ANSWER: answer (32 bits). Who does not know the session is not answered.
 */
#ifndef RESOLVE_H
#define RESOLVE_H

#include <tenon-migration/channel.h>

#include "commit.h"
#include "stream.h"

/**
 * Asks once: connects, tells the verdict, waits for the answer as long as the options' timeout, and says that it came (VERDICT finished).
 *
 * @return 0; -ECONNREFUSED, -ENOENT nobody listens; -ENODATA, -ECONNRESET closed without an answer: ask again later; -EBADMSG; or -errno
 */
int resolve_ask(const char *address, const struct tenon_channel_options *options,
		const uint8_t session[COMMIT_SESSION_BYTES], enum commit_verdict verdict, enum commit_answer *answer,
		struct tenon_error *err);

/* Somebody who came to the listener of a destination. */
struct resolve_visitor {
	struct tenon_channel *channel;
	struct stream_reader reader;
	struct stream_writer writer;
};

/** @param channel  as it was accepted; consumed, also on failure */
int resolve_visitor_init(struct resolve_visitor *visitor, struct tenon_channel *channel, struct tenon_error *err);
/**
 * Waits for a VERDICT, as long as the channel's timeout. A visitor that waits for its answer sends none; once it was answered it may
 * send VERDICT finished.
 *
 * @return 0; -EACCES of another session, -EBADMSG no VERDICT: finish it and forget it; or the channel's error
 */
int resolve_visitor_hear(struct resolve_visitor *visitor, const uint8_t session[COMMIT_SESSION_BYTES],
			 enum commit_destination_event *event, struct tenon_error *err);
int resolve_visitor_answer(struct resolve_visitor *visitor, enum commit_answer answer, struct tenon_error *err);
/** Closes the channel. Accepts a zeroed struct. */
void resolve_visitor_finish(struct resolve_visitor *visitor);

#endif
