// SPDX-License-Identifier: MIT
/*
 * The drawings of the report. Each is 880 wide and has a title and a description in words; what it shows is in a table of the page as
 * well, so nothing hangs on seeing it, or its colours.
 */
#include <stdbool.h>
#include <string.h>

#include "display.h"
#include "page.h"
#include "units.h"

#define WIDTH      880.0
#define LEFT       76.0 /* of the axis, where its labels are */
#define RIGHT      868.0
#define LEGEND_ROW 22.0
#define ROUNDS_MAX 60u /* that are drawn, or the bars become hairs */

/* ---- Text ---- */

/* Bytes of the UTF-8 sequence at `text`, 0: it is none. */
static unsigned sequence(const char *text)
{
	unsigned char first = (unsigned char)*text;
	unsigned bytes = first < 0x80   ? 1
			 : first < 0xc2 ? 0
			 : first < 0xe0 ? 2
			 : first < 0xf0 ? 3
			 : first < 0xf5 ? 4
					: 0;
	for (unsigned i = 1; i < bytes; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Too long, surrogates, beyond the last. */
	unsigned char second = bytes > 1 ? (unsigned char)text[1] : 0;
	bool wrong = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
		     (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
	return wrong ? 0 : bytes;
}

void page_text(FILE *out, const char *text)
{
	while (*text) {
		unsigned bytes = sequence(text);
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		case '\'':
			fputs("&#39;", out);
			break;
		default:
			if (bytes == 0 || (unsigned char)*text < 0x20 || *text == 0x7f)
				fputc('?', out);
			else
				fwrite(text, 1, bytes, out);
			break;
		}
		text += bytes ? bytes : 1;
	}
}

/* ---- What they share ---- */

static void begin(FILE *out, const char *id, double height, const char *title, const char *words)
{
	fprintf(out,
		"<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"%s-title %s-words\">\n<title "
		"id=\"%s-title\">%s</title>\n<desc id=\"%s-words\">%s</desc>\n",
		WIDTH, height, id, id, id, title, id, words);
}

static void end(FILE *out)
{
	fputs("</svg>\n", out);
}

static void label(FILE *out, double x, double y, const char *anchor, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	page_text(out, text);
	fputs("</text>\n", out);
}

static void rectangle(FILE *out, const char *class, double x, double y, double width, double height, const char *hint)
{
	fprintf(out, "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>", class, x, y,
		width > 0 ? width : 0, height > 0 ? height : 0);
	page_text(out, hint);
	fputs("</title></rect>\n", out);
}

static uint64_t total_ns(const struct history *history)
{
	return history->last.elapsed_ns ? history->last.elapsed_ns : 1;
}

static double x_of(const struct history *history, uint64_t at_ns)
{
	double share = (double)at_ns / (double)total_ns(history);
	return LEFT + (RIGHT - LEFT) * (share < 1 ? share : 1);
}

/* The least of 1, 2 or 5 times a power of ten that divides `most` into at most five. */
static double step_of(double most)
{
	double step = 1e-9;
	for (unsigned i = 0; most / step > 5; i++)
		step *= i % 3 == 1 ? 2.5 : 2;
	return step;
}

/* As step_of, of bytes: powers of two, which read well in their units. */
static double step_of_bytes(double most)
{
	double step = 1;
	while (most / step > 4)
		step *= 2;
	return step;
}

/* As many digits as tell one mark from the next. */
static void format_mark(double at_ns, double step_ns, char *text, size_t bytes)
{
	if (step_ns >= 1e8)
		snprintf(text, bytes, "%.*f s", step_ns >= 1e9 ? 0 : 1, at_ns / 1e9);
	else
		snprintf(text, bytes, "%.*f ms", step_ns >= 1e6 ? 0 : 2, at_ns / 1e6);
}

static void time_axis(FILE *out, const struct history *history, double y)
{
	double total = (double)total_ns(history), step = step_of(total / 1e9) * 1e9;
	for (unsigned i = 0; i * step <= total; i++) {
		double x = x_of(history, (uint64_t)(i * step));
		char text[32];
		format_mark(i * step, step, text, sizeof(text));
		fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, y, x,
			y + 5);
		label(out, x, y + 20, i ? "middle" : "start", text);
	}
}

static void byte_axis(FILE *out, double most, double top, double bottom, bool rate)
{
	double step = step_of_bytes(most);
	for (unsigned i = 0; i * step <= most; i++) {
		double at = i * step;
		double y = bottom - (bottom - top) * at / most;
		fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, y, RIGHT,
			y);
		label(out, LEFT - 8, y + 4, "end",
		      rate ? units_rate((uint64_t)at).text : units_bytes((uint64_t)at).text);
	}
}

/* A square in the colour of `class`, and what it stands for: the entries of a drawing's legend, three in a row. */
static void legend(FILE *out, const char *class, unsigned index, double y, const char *text)
{
	double row = y + LEGEND_ROW * (index / 3), column = (index % 3) * 290;
	rectangle(out, class, column, row - 11, 12, 12, text);
	label(out, column + 18, row, "start", text);
}

/* ---- Phases ---- */

void page_timeline(FILE *out, const struct history *history)
{
	const unsigned rows = (history->phase_count + 2) / 3;
	begin(out, "timeline", 72 + LEGEND_ROW * rows, "Phases along time",
	      "The times are in the table of phases below.");
	for (unsigned i = 0; i < history->phase_count; i++) {
		const struct history_phase *phase = &history->phases[i];
		double from = x_of(history, phase->begin_ns), to = x_of(history, phase->end_ns);
		char class[32], text[96];
		if (phase->phase >= TENON_MIGRATION_PHASE_DONE)
			continue;
		snprintf(class, sizeof(class), "phase-%u", (unsigned)phase->phase);
		snprintf(text, sizeof(text), "%s: %s", tenon_migration_phase_name(phase->phase),
			 units_time(phase->end_ns - phase->begin_ns).text);
		/* A phase of milliseconds is still to be seen. */
		rectangle(out, class, from, 4, to - from > 2 ? to - from - 1 : 2, 26, text);
		legend(out, class, i, 76, text);
	}
	/* Rounds are told apart by notches. */
	for (unsigned i = 0; i < history->round_count; i++) {
		double x = x_of(history, history->rounds[i].end_ns);
		fprintf(out, "<line class=\"notch\" x1=\"%.1f\" y1=\"21\" x2=\"%.1f\" y2=\"30\"/>\n", x, x);
	}
	time_axis(out, history, 32);
	end(out);
}

/* ---- RAM ---- */

void page_left(FILE *out, const struct history *history)
{
	const double top = 12, bottom = 190;
	uint64_t most = 1;
	for (unsigned i = 0; i < history->sample_count; i++)
		most = history->samples[i].left_bytes > most ? history->samples[i].left_bytes : most;
	begin(out, "left", 220, "RAM left to be sent along time", "Of each round it is in the table of rounds below.");
	byte_axis(out, (double)most, top, bottom, false);
	for (unsigned i = 0; i < history->round_count; i++) {
		double x = x_of(history, history->rounds[i].begin_ns);
		fprintf(out, "<line class=\"round\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, top, x,
			bottom);
	}
	for (unsigned pass = 0; pass < 2 && history->sample_count; pass++) {
		const struct history_sample *first = &history->samples[0],
					    *last = &history->samples[history->sample_count - 1];
		fprintf(out, "<%s points=\"", pass ? "polyline class=\"line\"" : "polygon class=\"area\"");
		if (!pass)
			fprintf(out, "%.2f,%.2f ", x_of(history, first->at_ns), bottom);
		for (unsigned i = 0; i < history->sample_count; i++)
			fprintf(out, "%.2f,%.2f ", x_of(history, history->samples[i].at_ns),
				bottom - (bottom - top) * (double)history->samples[i].left_bytes / (double)most);
		if (!pass)
			fprintf(out, "%.2f,%.2f", x_of(history, last->at_ns), bottom);
		fputs("\"/>\n", out);
	}
	time_axis(out, history, bottom);
	end(out);
}

/* ---- Rates ---- */

static void draw_round(FILE *out, const struct history_round *round, double x, double width, double most, double top,
		       double bottom)
{
	const double scale = (bottom - top) / most;
	char hint[96];
	snprintf(hint, sizeof(hint), "round %u: sent at %s", round->number, units_rate(round->bytes_per_second).text);
	double height = (double)round->bytes_per_second * scale;
	rectangle(out, "sent", x + width * 0.12, bottom - height, width * 0.36, height, hint);
	snprintf(hint, sizeof(hint), "round %u: the guest wrote %s", round->number,
		 units_rate(round->dirty_per_second).text);
	height = (double)round->dirty_per_second * scale;
	rectangle(out, "dirty", x + width * 0.52, bottom - height, width * 0.36, height, hint);
}

void page_rates(FILE *out, const struct history *history)
{
	const double top = 34, bottom = 210;
	unsigned first = history->round_count > ROUNDS_MAX ? history->round_count - ROUNDS_MAX : 0;
	unsigned count = history->round_count - first;
	uint64_t most = 1;
	for (unsigned i = first; i < history->round_count; i++) {
		const struct history_round *round = &history->rounds[i];
		most = round->bytes_per_second > most ? round->bytes_per_second : most;
		most = round->dirty_per_second > most ? round->dirty_per_second : most;
	}
	begin(out, "rates", 240, "Bandwidth and dirty rate of each round",
	      "Where the guest writes faster than is sent, a round is no shorter than the one before.");
	rectangle(out, "sent", LEFT, 8, 12, 12, "");
	label(out, LEFT + 18, 18, "start", "sent a second");
	rectangle(out, "dirty", LEFT + 140, 8, 12, 12, "");
	label(out, LEFT + 158, 18, "start", "written by the guest a second");
	byte_axis(out, (double)most, top, bottom, true);
	double width = count ? (RIGHT - LEFT) / (count < 4 ? 4 : count) : 0;
	for (unsigned i = 0; i < count; i++) {
		double x = LEFT + width * i;
		char number[16];
		draw_round(out, &history->rounds[first + i], x, width, (double)most, top, bottom);
		snprintf(number, sizeof(number), "%u", history->rounds[first + i].number);
		if (count <= 24 || i % 5 == 0)
			label(out, x + width / 2, bottom + 18, "middle", number);
	}
	end(out);
}

/* ---- Downtime ---- */

void page_downtime(FILE *out, const struct history *history)
{
	struct display_part parts[DISPLAY_PARTS];
	uint64_t sum = 0;
	display_downtime(&history->last, parts);
	for (unsigned i = 0; i < DISPLAY_PARTS; i++)
		sum += parts[i].ns;
	begin(out, "downtime", 36 + LEGEND_ROW * ((DISPLAY_PARTS + 2) / 3), "The parts of the downtime",
	      "They are in the table of the downtime below.");
	double x = 0, scale = sum ? RIGHT / (double)sum : 0;
	for (unsigned i = 0; i < DISPLAY_PARTS; i++) {
		char class[24], text[96];
		double width = (double)parts[i].ns * scale;
		snprintf(class, sizeof(class), "part-%u", i);
		snprintf(text, sizeof(text), "%s: %s", parts[i].name, units_time(parts[i].ns).text);
		if (parts[i].ns)
			rectangle(out, class, x, 2, width > 1.5 ? width - 1 : 1, 26, text);
		x += width;
		legend(out, class, i, 48, text);
	}
	end(out);
}
