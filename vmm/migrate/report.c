// SPDX-License-Identifier: MIT
/* The page around the drawings: what happened in a sentence, the numbers, and the tables that have what the drawings show. */
#include <string.h>
#include <time.h>

#include "display.h"
#include "page.h"
#include "report.h"
#include "units.h"

/* Colours that are told apart by those who see no red or green as well (after Okabe and Ito), on both grounds. */
static const char style[] =
	":root{color-scheme:light "
	"dark;--ground:#fcfcfb;--card:#fff;--ink:#1c1d20;--soft:#5c6068;--rule:#dfe1e5;--good:#00734f;"
	"--bad:#b3261e;--c0:#8a8f98;--c1:#0072b2;--c2:#e69f00;--c3:#d55e00;--c4:#009e73;--c5:#cc79a7}\n"
	"@media(prefers-color-scheme:dark){:root{--ground:#16171a;--card:#1f2125;--ink:#eceef1;--soft:#a6abb4;--rule:#"
	"383b42;"
	"--good:#4fd1a1;--bad:#ff8a80;--c0:#9aa0aa;--c1:#4ea8e0;--c2:#f0b429;--c3:#f2793a;--c4:#2fc797;--c5:#df97bd}}\n"
	"*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 "
	"system-ui,sans-serif}\n"
	"main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.6rem;line-height:1.2;margin:0 0 "
	".25rem}\n"
	"h2{font-size:1.1rem;margin:0 0 .75rem}p{margin:.25rem 0}.soft{color:var(--soft)}.good{color:var(--good)}"
	".bad{color:var(--bad)}\n"
	"section{background:var(--card);border:1px solid var(--rule);border-radius:.6rem;padding:1.1rem "
	"1.25rem;margin-top:1.1rem;"
	"overflow-x:auto}\n"
	"dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem;margin:0}dt{color:var(--"
	"soft);"
	"font-size:.85rem}dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums}\n"
	"table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}caption{text-"
	"align:left;"
	"color:var(--soft);padding-bottom:.3rem}\n"
	"th,td{padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}"
	"th:first-child,td:first-child{text-align:left}thead th{font-weight:600}tbody th{font-weight:400}\n"
	"svg{display:block;width:100%;min-width:36rem;height:auto;margin-bottom:.75rem}svg "
	"text{font-size:12px;fill:var(--soft)}"
	".grid{stroke:var(--rule)}\n"
	".notch{stroke:var(--card)}.round{stroke:var(--rule);stroke-dasharray:2 "
	"3}.line{fill:none;stroke:var(--c1);stroke-width:1.5}"
	".area{fill:var(--c1);opacity:.16}.sent{fill:var(--c1)}.dirty{fill:var(--c2)}\n"
	".phase-0{fill:var(--c0)}.phase-1{fill:var(--c1)}.phase-2{fill:var(--c2)}.phase-3{fill:var(--c3)}.phase-4{fill:"
	"var(--c4)}"
	".phase-5{fill:var(--c5)}\n"
	".part-0{fill:var(--c0)}.part-1{fill:var(--c2)}.part-2{fill:var(--c1)}.part-3{fill:var(--c3)}.part-4{fill:var(-"
	"-c5)}"
	".part-5{fill:var(--c4)}\n"
	"@media print{section{break-inside:avoid}}\n";

/* ---- Head ---- */

static void write_head(FILE *out, const struct history *history, const struct report_facts *facts)
{
	const char *what = facts->error ? "Migration failed" : facts->saved ? "Snapshot written" : "Migration done";
	char when[64] = "";
	time_t now = time(NULL);
	struct tm local;
	if (localtime_r(&now, &local))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &local);
	fprintf(out,
		"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
		"content=\"width=device-width, initial-scale=1\"/>\n<title>%s: ",
		what);
	page_text(out, facts->vm);
	fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>%s</h1>\n<p class=\"soft\">", style,
		what);
	page_text(out, facts->vm);
	fputs(" to ", out);
	page_text(out, facts->address);
	fprintf(out, ", %s</p>\n", when);
	if (facts->error) {
		fputs("<p class=\"bad\"><strong>", out);
		page_text(out, facts->error);
		fputs("</strong></p>\n", out);
	} else {
		fprintf(out, "<p class=\"good\">%s after %s; it stood still for %s.</p>\n",
			facts->saved ? "The guest is saved" : "The guest runs at its destination",
			units_time(history->last.elapsed_ns).text, units_time(history->last.downtime_ns).text);
	}
}

static void write_number(FILE *out, const char *name, struct units_text value)
{
	fprintf(out, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, value.text);
}

static struct units_text count_of(uint64_t count)
{
	struct units_text text;
	snprintf(text.text, sizeof(text.text), "%llu", (unsigned long long)count);
	return text;
}

static void write_numbers(FILE *out, const struct history *history)
{
	const struct tenon_migration_progress *last = &history->last;
	uint64_t seconds_1000 = last->elapsed_ns / 1000000;
	fputs("<section aria-label=\"Numbers\">\n<dl>\n", out);
	write_number(out, "Total time", units_time(last->elapsed_ns));
	write_number(out, "Downtime", last->downtime_ns ? units_time(last->downtime_ns) : (struct units_text){"none"});
	write_number(out, "Guest RAM", units_bytes(last->ram_bytes));
	write_number(out, "Sent", units_bytes(last->sent_bytes));
	write_number(out, "On average",
		     units_rate(seconds_1000 ? (uint64_t)((double)last->sent_bytes * 1000 / (double)seconds_1000) : 0));
	write_number(out, "Rounds", count_of(history->round_count + history->rounds_dropped));
	write_number(out, "Pages with data", count_of(last->pages));
	write_number(out, "Zero pages", count_of(last->zero_pages));
	fputs("</dl>\n</section>\n", out);
}

/* ---- Tables ---- */

static void begin_section(FILE *out, const char *title)
{
	fprintf(out, "<section>\n<h2>%s</h2>\n", title);
}

static void begin_table(FILE *out, const char *caption, const char *const *heads)
{
	fprintf(out, "<table>\n<caption>%s</caption>\n<thead><tr>", caption);
	for (; *heads; heads++)
		fprintf(out, "<th scope=\"col\">%s</th>", *heads);
	fputs("</tr></thead>\n<tbody>\n", out);
}

static void end_table(FILE *out)
{
	fputs("</tbody>\n</table>\n", out);
}

static void write_phases(FILE *out, const struct history *history)
{
	static const char *const heads[] = {"Phase", "Begins at", "Takes", NULL};
	begin_section(out, "Phases");
	page_timeline(out, history);
	begin_table(out, "Phases of the migration", heads);
	for (unsigned i = 0; i < history->phase_count; i++) {
		const struct history_phase *phase = &history->phases[i];
		bool over = phase->phase >= TENON_MIGRATION_PHASE_DONE;
		fprintf(out, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td></tr>\n",
			tenon_migration_phase_name(phase->phase), units_moment(phase->begin_ns).text,
			over ? "" : units_time(phase->end_ns - phase->begin_ns).text);
	}
	end_table(out);
	fputs("</section>\n", out);
}

static void write_rounds(FILE *out, const struct history *history)
{
	static const char *const heads[] = {"Round", "Begins at", "Takes",      "RAM at its begin",
					    "Sent",  "Bandwidth", "Dirty rate", NULL};
	if (history->round_count == 0)
		return;
	begin_section(out, "RAM");
	page_left(out, history);
	page_rates(out, history);
	fprintf(out, "<details%s>\n<summary>Rounds</summary>\n", history->round_count <= 12 ? " open=\"open\"" : "");
	begin_table(out, history->rounds_dropped ? "The last rounds" : "Rounds of pre-copy", heads);
	for (unsigned i = 0; i < history->round_count; i++) {
		const struct history_round *round = &history->rounds[i];
		fprintf(out,
			"<tr><th "
			"scope=\"row\">%u</th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td>"
			"</tr>\n",
			round->number, units_moment(round->begin_ns).text,
			units_time(round->end_ns - round->begin_ns).text, units_bytes(round->left_bytes).text,
			units_bytes(round->sent_bytes).text, units_rate(round->bytes_per_second).text,
			units_rate(round->dirty_per_second).text);
	}
	end_table(out);
	fputs("</details>\n</section>\n", out);
}

static void write_downtime(FILE *out, const struct history *history)
{
	static const char *const heads[] = {"Part", "Time", "Share", NULL};
	struct display_part parts[DISPLAY_PARTS];
	uint64_t sum = 0;
	if (history->last.downtime_ns == 0)
		return;
	display_downtime(&history->last, parts);
	for (unsigned i = 0; i < DISPLAY_PARTS; i++)
		sum += parts[i].ns;
	begin_section(out, "Downtime");
	page_downtime(out, history);
	begin_table(out, "The time in which the guest stood still, as the source saw it", heads);
	for (unsigned i = 0; i < DISPLAY_PARTS; i++)
		fprintf(out, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%.1f %%</td></tr>\n", parts[i].name,
			units_time(parts[i].ns).text, sum ? 100.0 * (double)parts[i].ns / (double)sum : 0);
	fprintf(out, "<tr><th scope=\"row\"><strong>together</strong></th><td><strong>%s</strong></td><td></td></tr>\n",
		units_time(history->last.downtime_ns).text);
	end_table(out);
	fputs("</section>\n", out);
}

static void write_devices(FILE *out, const struct history *history)
{
	static const char *const heads[] = {"Device", "State", "Sent", "Left", NULL};
	const struct tenon_migration_progress *last = &history->last;
	if (last->device_count == 0)
		return;
	begin_section(out, "Devices");
	begin_table(out, "Assigned devices, as they were at the end", heads);
	for (unsigned i = 0; i < last->device_count && i < TENON_MIGRATION_DEVICES; i++) {
		const struct tenon_migration_device_progress *device = &last->devices[i];
		const struct tenon_migration_rule *rule = tenon_migration_rule(device->state);
		fputs("<tr><th scope=\"row\">", out);
		page_text(out, device->name);
		fprintf(out, "</th><td>%s</td><td>%s</td><td>%s</td></tr>\n", rule ? rule->name : "unknown",
			units_bytes(device->sent_bytes).text, units_bytes(device->left_bytes).text);
	}
	end_table(out);
	fputs("</section>\n", out);
}

void report_write(FILE *out, const struct history *history, const struct report_facts *facts)
{
	write_head(out, history, facts);
	write_numbers(out, history);
	write_phases(out, history);
	write_rounds(out, history);
	write_downtime(out, history);
	write_devices(out, history);
	fputs("</main>\n</body>\n</html>\n", out);
}
