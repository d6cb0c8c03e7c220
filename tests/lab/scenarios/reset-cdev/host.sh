# SPDX-License-Identifier: MIT
INTERFACE=
. $OUT/host/reset_cases.sh
