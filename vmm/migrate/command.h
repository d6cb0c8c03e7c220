/* SPDX-License-Identifier: MIT */
/* The command `tenon migrate`. */
#ifndef MIGRATE_COMMAND_H
#define MIGRATE_COMMAND_H

/** @param argv  argv[0] is "tenon migrate" @return the exit status; output may still be buffered */
int migrate_main(int argc, char **argv);

#endif
