/* SPDX-License-Identifier: MIT */
/* The command lines of the host's commands. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/error.h>

#include "host.h"

#define ARGUMENTS_MAX 64

struct options {
	const char *arguments[ARGUMENTS_MAX]; /* borrowed from argv */
	unsigned argument_count;
	const char *driver;    /* --driver; NULL: vfio-pci */
	const char *vf_token;  /* --vf-token; NULL: none */
	uint64_t memory_bytes; /* --memory; 0: not given */
	bool json, dot, all, group, force, dry_run, autoprobe, plan, yes, help;
};

/* A command: `run` returns an exit status, having printed what failed. */
struct command {
	const char *name;
	const char *arguments; /* as the usage line shows them */
	const char *about;     /* one line */
	const char *more;      /* paragraphs for --help; NULL: none */
	unsigned options;      /* OPTION_ bits that it takes */
	unsigned arguments_min, arguments_max;
	int (*run)(const struct host *host, const struct options *options, struct tenon_error *err);
};

#define OPTION_JSON      (1u << 0)
#define OPTION_DOT       (1u << 1)
#define OPTION_ALL       (1u << 2)
#define OPTION_GROUP     (1u << 3)
#define OPTION_FORCE     (1u << 4)
#define OPTION_DRY_RUN   (1u << 5)
#define OPTION_DRIVER    (1u << 6)
#define OPTION_MEMORY    (1u << 7)
#define OPTION_AUTOPROBE (1u << 8)
#define OPTION_PLAN      (1u << 9)
#define OPTION_YES       (1u << 10)
#define OPTION_VF_TOKEN  (1u << 11)

/* The exit statuses. */
enum { STATUS_OK, STATUS_FAILED, STATUS_USAGE };

/** Parses argv; argv[0] is the command's name. --help is printed here. @param err required */
int options_parse(const struct command *command, int argc, char **argv, struct options *options,
		  struct tenon_error *err);

#endif
