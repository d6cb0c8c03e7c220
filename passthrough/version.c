// SPDX-License-Identifier: MIT
/* The version, given by the build so that it stands in one place only (CMakeLists.txt). */
#include <tenon/tenon.h>

const char *tenon_version(void)
{
	return TENON_VERSION;
}
