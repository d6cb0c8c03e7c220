/* SPDX-License-Identifier: MIT */
/* The command `tenon ctl`. */
#ifndef CTL_H
#define CTL_H

/** @param argv  argv[0] is "tenon ctl" @return the exit status; output may still be buffered */
int ctl_main(int argc, char **argv);

#endif
