/* SPDX-License-Identifier: MIT */
/*
 * The devices of the machine in AML, for tables.c.
 */
#ifndef ACPI_DSDT_H
#define ACPI_DSDT_H

#include "aml.h"
#include "tables.h"

void dsdt_write(const struct acpi_machine *machine, struct aml *aml);

#endif
