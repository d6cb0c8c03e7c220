# SPDX-License-Identifier: MIT
INTERFACE=--container
. $OUT/host/reset_cases.sh
