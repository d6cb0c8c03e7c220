/* SPDX-License-Identifier: MIT */
/*
 * What most tests of the library start from: a VMM with RAM, an open device, and short words for what a guest does with
 * it. Every function here aborts the test, with the library's message, when it cannot do its work.
 */
#ifndef VFIO_FIXTURE_H
#define VFIO_FIXTURE_H

#include <tenon/tenon.h>

#include "vfio_fake.h"
#include "vfio_host.h"

#define RAM_BYTES 0x200000u
#define BAR_GPA   0xe0000000u /* where tests place BAR 0 */

struct fixture {
	struct fake_device *fake;
	struct fake_host host;
	struct tenon_space *space;
	struct tenon_device *device;
	struct tenon_error err;
};

/** RAM_BYTES of memory that may be given to any guest. */
void *fixture_ram(void);
/** A space with RAM at 0, and the host; no device yet. */
void fixture_init(struct fixture *fixture);
/** Options that open `fake` by its BDF with the fixture's host and space. */
struct tenon_device_options fixture_options(struct fixture *fixture, const struct fake_device *fake);
/** fixture_init, then opens the device. The journal and the counts start here. */
void fixture_open(struct fixture *fixture, struct fake_device *fake);
/** fixture_open, then guest_place; the journal and the counts start behind that. */
void fixture_open_placed(struct fixture *fixture, struct fake_device *fake);
/** The same with INTx switched off, as a driver does that knows it will use messages. */
void fixture_open_without_intx(struct fixture *fixture, struct fake_device *fake);
/** Closes all there is and asserts that nothing is left. */
void fixture_close(struct fixture *fixture);
/** Asserts that kernel and host hold nothing any more and no rule was broken. */
void assert_nothing_left(const struct fixture *fixture);
/** With AddressSanitizer: asserts that no allocated memory is unreachable. */
void assert_no_heap_leak(void);
/** Asserts the form of a message: one line, "; advice", no full stop, and the code that came with it. */
void assert_message(const struct tenon_error *err, int code);

/* ---- A guest's accesses ---- */

uint32_t guest_config(struct fixture *fixture, unsigned offset, unsigned size_bytes);
void guest_config_write(struct fixture *fixture, unsigned offset, unsigned size_bytes, uint32_t value);
/** Offset of a capability as the guest finds it, 0: none. */
unsigned guest_capability(struct fixture *fixture, uint8_t id);
unsigned guest_capability_extended(struct fixture *fixture, uint16_t id);
/** Sets and clears bits of the command register. */
void guest_command(struct fixture *fixture, uint16_t set, uint16_t clear);
/** Places BAR 0 at BAR_GPA (other BARs are left) and switches memory decoding and bus mastering on. */
void guest_place(struct fixture *fixture);
uint64_t guest_bar(struct fixture *fixture, unsigned bar, uint64_t offset, unsigned size_bytes);
void guest_bar_write(struct fixture *fixture, unsigned bar, uint64_t offset, unsigned size_bytes, uint64_t value);

/* ---- MSI-X as a driver does it, on the table of fake_nvme ---- */

#define MESSAGE_ADDRESS 0xfee01000u
/** Fills in a vector's message and sets its mask bit. The message's data is what host_messages() takes. */
void guest_msix_vector(struct fixture *fixture, unsigned vector, uint32_t data, bool masked);
void guest_msix_mask(struct fixture *fixture, unsigned vector, bool masked);
/** Writes MSI-X enable and function mask. */
void guest_msix_control(struct fixture *fixture, bool enable, bool function_mask);
/** The vector's bit of the pending bit array, as the guest reads it. */
bool guest_msix_pending(struct fixture *fixture, unsigned vector);

#endif
