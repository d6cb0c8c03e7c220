// SPDX-License-Identifier: MIT
/*
 * VERDICT and ANSWER on a connection of their own. Carries the words; what follows from them is commit.def's matter, and when to ask again
 * the caller's.
 */
#include <errno.h>

#include "messages.h"
#include "resolve.h"

/* Takes as long for each session, so that nobody learns from the time how much of a guess was right. */
static bool same_session(const uint8_t one[COMMIT_SESSION_BYTES], const uint8_t other[COMMIT_SESSION_BYTES])
{
	uint8_t differences = 0;
	for (unsigned i = 0; i < COMMIT_SESSION_BYTES; i++)
		differences |= one[i] ^ other[i];
	return differences == 0;
}

static int say(struct stream_writer *writer, const uint8_t session[COMMIT_SESSION_BYTES], enum commit_verdict verdict,
	       struct tenon_error *err)
{
	struct verdict message = {.verdict = verdict};
	for (unsigned i = 0; i < COMMIT_SESSION_BYTES; i++)
		message.session[i] = session[i];
	return verdict_write(writer, &message, err);
}

static int ask_on(struct resolve_visitor *asker, const uint8_t session[COMMIT_SESSION_BYTES],
		  enum commit_verdict verdict, enum commit_answer *answer, struct tenon_error *err)
{
	struct section section;
	int code = say(&asker->writer, session, verdict, err);
	if (code == 0)
		code = message_await(&asker->reader, SECTION_ANSWER, &section, err);
	if (code == 0)
		code = answer_decode(asker->reader.payload, section.bytes, answer, err);
	/* Whoever answers may now forget it. If this is lost, it is kept for longer than needed, no more. */
	if (code == 0)
		say(&asker->writer, session, COMMIT_VERDICT_FINISHED, NULL);
	return code;
}

int resolve_ask(const char *address, const struct tenon_channel_options *options,
		const uint8_t session[COMMIT_SESSION_BYTES], enum commit_verdict verdict, enum commit_answer *answer,
		struct tenon_error *err)
{
	struct tenon_channel *channel;
	struct resolve_visitor asker = {0};
	int code = tenon_channel_connect(address, options, &channel, err);
	if (code < 0)
		return code;
	code = resolve_visitor_init(&asker, channel, err);
	if (code < 0)
		return code;
	code = ask_on(&asker, session, verdict, answer, err);
	resolve_visitor_finish(&asker);
	return code;
}

int resolve_visitor_init(struct resolve_visitor *visitor, struct tenon_channel *channel, struct tenon_error *err)
{
	*visitor = (struct resolve_visitor){.channel = channel};
	stream_writer_init(&visitor->writer, channel);
	int code = stream_reader_init(&visitor->reader, channel, err);
	if (code < 0)
		resolve_visitor_finish(visitor);
	return code;
}

int resolve_visitor_hear(struct resolve_visitor *visitor, const uint8_t session[COMMIT_SESSION_BYTES],
			 enum commit_destination_event *event, struct tenon_error *err)
{
	struct section section;
	struct verdict verdict;
	int code = message_await(&visitor->reader, SECTION_VERDICT, &section, err);
	if (code == 0)
		code = verdict_decode(visitor->reader.payload, section.bytes, &verdict, err);
	if (code < 0)
		return code;
	if (!same_session(verdict.session, session))
		return tenon_fail(err, -EACCES, "%s: asks about another migration; nothing is answered",
				  tenon_channel_name(visitor->channel));
	if (!commit_verdict_event(verdict.verdict, event))
		return tenon_fail(err, -EBADMSG, "%s: unknown verdict %u; use the same version of this program",
				  tenon_channel_name(visitor->channel), (unsigned)verdict.verdict);
	return 0;
}

int resolve_visitor_answer(struct resolve_visitor *visitor, enum commit_answer answer, struct tenon_error *err)
{
	return answer_write(&visitor->writer, answer, err);
}

void resolve_visitor_finish(struct resolve_visitor *visitor)
{
	stream_reader_finish(&visitor->reader);
	tenon_channel_close(visitor->channel);
	*visitor = (struct resolve_visitor){0};
}
