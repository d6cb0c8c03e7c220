/* SPDX-License-Identifier: MIT */
/* The host's commands, which live in a program of their own: it links libpci, which is GPL and has no static library. */
#ifndef ADMIN_H
#define ADMIN_H

#include <stdbool.h>

#include <tenon/error.h>

/** Whether `command` is one of tenon-admin's. */
bool admin_has(const char *command);

/** Becomes tenon-admin with these arguments. Returns only on failure, with -errno. */
int admin_exec(char **argv, struct tenon_error *err);

#endif
