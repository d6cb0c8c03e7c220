/* SPDX-License-Identifier: MIT */
/* `tenon check`: is this device fit for assignment, seen from inside a guest? */
#ifndef CHECK_H
#define CHECK_H

enum check_status {
	CHECK_PASSED = 0,
	CHECK_FAILED = 1,
	CHECK_USAGE = 2,
	CHECK_IMPOSSIBLE = 3, /* the VM could not be set up; nothing was checked */
};

/** argv[0] is "tenon check". Prints the report. @return the exit status */
int check_main(int argc, char **argv);

#endif
