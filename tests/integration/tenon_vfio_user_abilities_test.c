// SPDX-License-Identifier: MIT
/*
 * Everything that the test device can do (tests/testdev/README.md), driven by a guest: the firmware's self-test, on two devices, so that
 * each is the other's peer. The device itself checks the contract and fails at its end if it was broken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "vfio_user_liar.h"

TestSuite(tenon_vfio_user_abilities, .init = guest_skip_without_kvm, .timeout = 180);

#define CHECK_MS 60000

/* One or two devices with the same options, and the tool's run on them. */
struct pair {
	unsigned count;
	struct testdev_run devices[2];
	struct run check;
};

static void start(struct pair *pair, const char *const *options, unsigned count)
{
	char first[128], second[128];
	pair->count = count;
	for (unsigned i = 0; i < count; i++)
		testdev_start(&pair->devices[i], options);
	/* Time is not what is tested here, and the machine may be busy. */
	snprintf(first, sizeof(first), "vfio-user:%s,timeout=5000", pair->devices[0].path);
	snprintf(second, sizeof(second), "vfio-user:%s,root-port,timeout=5000", pair->devices[count - 1].path);
	run_start(&pair->check, ARGS("check", "--device", first, count > 1 ? "--device" : NULL, second), NULL);
}

static void finish(struct pair *pair, const char *name, int status)
{
	cr_expect_eq(run_wait(&pair->check, CHECK_MS), status, "%s: '%s', '%s'", name, pair->check.said.bytes,
		     pair->check.complained.bytes);
	cr_expect_eq(pair->check.complained.count != 0, status != 0, "%s: %s", name, pair->check.complained.bytes);
	for (unsigned i = 0; i < pair->count; i++)
		cr_expect_eq(testdev_stop(&pair->devices[i]), 0, "%s: %s%s", name, pair->devices[i].run.said.bytes,
			     pair->devices[i].run.complained.bytes);
}

static void end(struct pair *pair)
{
	run_finish(&pair->check);
	for (unsigned i = 0; i < pair->count; i++)
		testdev_finish(&pair->devices[i]);
}

Test(tenon_vfio_user_abilities, each_is_driven_by_a_guest)
{
	static const struct {
		const char *ability, *check, *words;
	} rows[] = {
		{"identity, config space", "config ids", "7e4e:0001"},
		{"capabilities, the vendor's too", "config capabilities", "5 in the list"},
		{"SR-IOV is hidden", "config extended capabilities", "no SR-IOV"},
		{"BAR 0, trapped, 64 bits", "bar 0 ", "0x4000 bytes"},
		{"BAR 2, prefetchable", "bar 2 ", "0x100000 bytes"},
		{"I/O BAR", "bar 4 ", "0x20 bytes"},
		{"BAR 5, 32 bits", "bar 5 ", "0x1000 bytes"},
		{"ROM", "rom", "with an image"},
		{"INTx, twice", "intx", "and again after"},
		{"MSI, 32 vectors", "msi ", "32 of them in all"},
		{"MSI-X, 64 vectors, masked ones", "msi-x", "64 raised and delivered"},
		{"power states", "power", "silent there, and back"},
		{"function level reset", "flr", "the device's registers too"},
		{"reset of its bus", "bus reset", "functions behind the bridge: 1, all as after power-on"},
		{"copy engine, scatter list", "dma copy", "4096 bytes in 4 pieces"},
		{"doorbell that starts it", "dma doorbell", "seen in BAR 2"},
		{"mapped and trapped parts", "bar 2 trapped hole", "join"},
		{"ports by index and data", "bar 4 ports", "in bytes and words"},
		{"mapped whole, at an offset", "bar 5 page", "first byte to last"},
		{"fill, both directions, checksum, interrupts", "dma list", "2 interrupts raised"},
		{"lists that make no sense", "dma bad list", "refused"},
		{"doorbells, with and without eventfds", "doorbells", "15 rung"},
		{"load engine", "dma load", "4 pages written twice"},
		{"a peer's BAR", "dma peer", "memory of another device"},
		{"resets are counted", "resets counted", "by the VMM"},
		{"contract", "contract", "nothing that breaks it"},
	};
	struct pair pair;
	start(&pair, NULL, 2);
	finish(&pair, "all", 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[64];
		unsigned seen = 0;
		snprintf(line, sizeof(line), "\n  ok    %s", rows[i].check);
		for (const char *at = pair.check.said.bytes; (at = strstr(at, line)); at++) {
			const char *words = strstr(at, rows[i].words), *next = strchr(at + 1, '\n');
			seen += words && words < next;
		}
		cr_expect_eq(seen, 2, "%s: %u of 2 devices in '%s'", rows[i].ability, seen, pair.check.said.bytes);
	}
	cr_expect(strstr(pair.check.said.bytes, "54 checks: 54 passed, 0 failed, 0 skipped"), "%s",
		  pair.check.said.bytes);
	end(&pair);
}

/* Devices that lack something, and servers of another taste. What the guest sees is the same. */
Test(tenon_vfio_user_abilities, guests_see_the_same_whatever_the_server_lacks)
{
	/* Memory that the guest cannot reach without a trap is none for a peer: the first has none. */
	static const char *const options[] = {"--no-mapping", "--no-twin-socket",   "--no-doorbell-fds",
					      "--fixed-msix", "--long-sub-regions", "--data-bytes=4096"};
	enum { COUNT = sizeof(options) / sizeof(options[0]), BESIDE = 3 };
	struct pair pairs[BESIDE];
	for (unsigned i = 0; i < COUNT + BESIDE; i++) {
		if (i >= BESIDE) {
			finish(&pairs[i % BESIDE], options[i - BESIDE], 0);
			end(&pairs[i % BESIDE]);
		}
		if (i < COUNT)
			start(&pairs[i % BESIDE], ARGS(options[i]), i ? 2 : 1);
	}
}

/* All works but the reset, which the user is told of and the guest finds out. */
Test(tenon_vfio_user_abilities, a_server_without_reset_lacks_that_alone)
{
	struct pair pair;
	start(&pair, ARGS("--no-reset"), 1);
	finish(&pair, "--no-reset", 1);
	cr_expect(strstr(pair.check.said.bytes, "FAIL  flr "), "%s", pair.check.said.bytes);
	cr_expect(strstr(pair.check.said.bytes, "27 checks: 23 passed, 1 failed, 3 skipped"), "%s",
		  pair.check.said.bytes);
	cr_expect(strstr(pair.check.complained.bytes, "cannot be reset: it has no reset of its own"), "%s",
		  pair.check.complained.bytes);
	end(&pair);
}
