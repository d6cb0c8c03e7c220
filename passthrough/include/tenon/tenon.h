/* SPDX-License-Identifier: MIT */
/*
 * libtenon: gives a guest a real PCI device. This header includes all others; read them in this order.
 *
 * The library starts no thread, prints nothing, never exits and keeps no global state.
 */
#ifndef TENON_TENON_H
#define TENON_TENON_H

#include <tenon/error.h>
#include <tenon/host.h>
#include <tenon/space.h>
#include <tenon/device.h>
#include <tenon/topology.h>
#include <tenon/migration.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** The library's version, "major.minor.patch". Static storage. */
const char *tenon_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
