// SPDX-License-Identifier: MIT
/* Parses a command's arguments with argp. One table of options; each command takes some of them. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

enum {
	KEY_JSON = 256,
	KEY_DOT,
	KEY_ALL,
	KEY_GROUP,
	KEY_FORCE,
	KEY_DRY_RUN,
	KEY_DRIVER,
	KEY_MEMORY,
	KEY_AUTOPROBE,
	KEY_PLAN,
	KEY_YES,
	KEY_VF_TOKEN,
	KEY_HELP
};

static const struct {
	unsigned bit; /* 0: every command has it */
	struct argp_option option;
} all_options[] = {
	{OPTION_JSON, {"json", KEY_JSON, NULL, 0, "Print JSON", 0}},
	{OPTION_DOT, {"dot", KEY_DOT, NULL, 0, "Print a graph for Graphviz: tenon topology --dot | dot -Tsvg", 0}},
	{OPTION_ALL, {"all", KEY_ALL, NULL, 0, "Bridges and other parts of the host's own tree too", 0}},
	{OPTION_GROUP, {"group", KEY_GROUP, NULL, 0, "All members of the devices' IOMMU groups", 0}},
	{OPTION_FORCE, {"force", KEY_FORCE, NULL, 0, "Do it although the device is in use", 0}},
	{OPTION_DRY_RUN, {"dry-run", KEY_DRY_RUN, NULL, 0, "Check everything, say what would be done, and end", 0}},
	{OPTION_DRIVER, {"driver", KEY_DRIVER, "NAME", 0, "Bind to this driver (default vfio-pci)", 0}},
	{OPTION_MEMORY,
	 {"memory", KEY_MEMORY, "SIZE", 0, "Memory of the VM that is planned, e.g. 4G (default 256M)", 0}},
	{OPTION_AUTOPROBE, {"autoprobe", KEY_AUTOPROBE, NULL, 0, "Let the host's drivers take the new VFs", 0}},
	{OPTION_PLAN,
	 {"plan", KEY_PLAN, NULL, 0, "Say what a reset would do, whom it hits, and whether it is allowed", 0}},
	{OPTION_YES, {"yes", KEY_YES, NULL, 0, "Do not ask", 0}},
	{OPTION_VF_TOKEN, {"vf-token", KEY_VF_TOKEN, "UUID", 0, "The token that a PF and its VFs share", 0}},
	{0, {"help", KEY_HELP, NULL, 0, "Print this", 0}},
};

struct parser {
	const struct command *command;
	struct options *options;
	struct tenon_error *err;
};

/* 512M, 6G, or bytes. */
static int parse_size(const char *text, uint64_t *out, struct tenon_error *err)
{
	static const char units[] = "KMGT";
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
	if (errno || end == text || text[0] == '-' || (*end && (!unit || end[1])) || value == 0 ||
	    value > UINT64_MAX >> shift)
		return tenon_fail(err, -EINVAL, "--memory %.32s: not a size; give one such as 512M or 6G", text);
	*out = value << shift;
	return 0;
}

static int add_argument(struct parser *parser, const char *text)
{
	struct options *options = parser->options;
	if (options->argument_count >= parser->command->arguments_max)
		return tenon_fail(parser->err, -EINVAL, "%.64s: unexpected argument; see tenon %s --help", text,
				  parser->command->name);
	options->arguments[options->argument_count++] = text;
	return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct parser *parser = state->input;
	struct options *options = parser->options;
	int code = 0;
	switch (key) {
	case KEY_JSON:
		options->json = true;
		break;
	case KEY_DOT:
		options->dot = true;
		break;
	case KEY_ALL:
		options->all = true;
		break;
	case KEY_GROUP:
		options->group = true;
		break;
	case KEY_FORCE:
		options->force = true;
		break;
	case KEY_DRY_RUN:
		options->dry_run = true;
		break;
	case KEY_DRIVER:
		options->driver = text;
		break;
	case KEY_MEMORY:
		code = parse_size(text, &options->memory_bytes, parser->err);
		break;
	case KEY_AUTOPROBE:
		options->autoprobe = true;
		break;
	case KEY_PLAN:
		options->plan = true;
		break;
	case KEY_YES:
		options->yes = true;
		break;
	case KEY_VF_TOKEN:
		options->vf_token = text;
		break;
	case KEY_HELP:
		options->help = true;
		break;
	case ARGP_KEY_ARG:
		code = add_argument(parser, text);
		break;
	case ARGP_KEY_ERROR:
		/* argp's own findings come without words under ARGP_NO_ERRS; ours bring theirs. */
		if (parser->err->code == 0)
			tenon_fail(parser->err, -EINVAL,
				   "%.64s: unknown option, or its value is missing; see tenon %s --help",
				   state->argv[state->next - 1], parser->command->name);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return -code;
}

int options_parse(const struct command *command, int argc, char **argv, struct options *options,
		  struct tenon_error *err)
{
	struct argp_option known[sizeof(all_options) / sizeof(all_options[0]) + 1] = {0};
	unsigned count = 0;
	char doc[2048], name[64];
	for (unsigned i = 0; i < sizeof(all_options) / sizeof(all_options[0]); i++) {
		if (!all_options[i].bit || command->options & all_options[i].bit)
			known[count++] = all_options[i].option;
	}
	snprintf(doc, sizeof(doc), "%s\v%s", command->about, command->more ? command->more : "");
	const struct argp argp = {.options = known, .parser = parse_option, .args_doc = command->arguments, .doc = doc};
	*options = (struct options){0};
	struct parser parser = {command, options, err};
	err->code = 0;
	/* Without argp's own errors, because ours take one line each; it then prints no help by itself either. */
	error_t code = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &parser);
	if (code == 0 && options->help) {
		snprintf(name, sizeof(name), "tenon %s", command->name);
		argp_help(&argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, name);
		return 0;
	}
	if (code == 0 && options->argument_count < command->arguments_min) {
		snprintf(name, sizeof(name), "%s", command->arguments);
		for (char *line = name; (line = strchr(line, '\n'));)
			*line = '|';
		code = -tenon_fail(err, -EINVAL, "tenon %s: arguments are missing; it takes %s", command->name, name);
	}
	return -code;
}
