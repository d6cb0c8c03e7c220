// SPDX-License-Identifier: MIT
/* The command line of `tenon run`, as tenon(1) has it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define WORDS_MAX 80
#define MIB       (UINT64_C(1) << 20)

/* Words after "tenon run", until NULL. They are copied, since argv is the parser's to permute; options borrow from the copies. */
static int parse_words(const char *const *words, struct run_options *options, struct tenon_error *err)
{
	static char copies[WORDS_MAX][64] = {"tenon run"};
	static char *argv[WORDS_MAX + 1];
	int argc = 1;
	argv[0] = copies[0];
	for (; *words; words++) {
		cr_assert(argc < WORDS_MAX && strlen(*words) < sizeof(copies[0]));
		argv[argc] = strcpy(copies[argc], *words);
		argc++;
	}
	argv[argc] = NULL;
	*err = (struct tenon_error){0};
	return options_parse(argc, argv, options, err);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct run_options accept(const char *const *words)
{
	struct run_options options;
	struct tenon_error err;
	cr_assert_eq(parse_words(words, &options, &err), 0, "%s", err.message);
	return options;
}

/* One line, with advice after "; ", that names `named`. */
static void expect_refused(const char *const *words, const char *named)
{
	struct run_options options;
	struct tenon_error err;
	int code = parse_words(words, &options, &err);
	if (code == 0) {
		char line[512] = "";
		for (size_t used = 0; *words && used < sizeof(line); words++)
			used += (size_t)snprintf(line + used, sizeof(line) - used, " %s", *words);
		cr_expect_fail("accepted:%s", line);
		options_finish(&options);
		return;
	}
	cr_expect_eq(err.code, code);
	cr_expect(strstr(err.message, named), "no '%s' in: %s", named, err.message);
	cr_expect(strstr(err.message, "; "), "no advice: %s", err.message);
	cr_expect_null(strchr(err.message, '\n'));
	cr_expect_neq(err.message[strlen(err.message) - 1], '.');
}

TestSuite(options, .timeout = 30);

/* ---- What is accepted ---- */

Test(options, defaults_are_those_of_the_manual)
{
	struct run_options options = accept(WORDS("--kernel", "vmlinuz"));
	cr_expect_str_eq(options.kernel, "vmlinuz");
	cr_expect_null(options.initrd);
	cr_expect_str_eq(options.append, "");
	cr_expect_str_eq(options.serial, "stdio");
	cr_expect_eq(options.memory.size_bytes, 256 * MIB);
	cr_expect_eq(options.memory.huge_page_bytes, 0);
	cr_expect_not(options.memory.prefault);
	cr_expect_eq(options.cpus, 1);
	cr_expect_eq(options.device_count, 0);
	cr_expect_eq(options.iommufd, 0);
	cr_expect_not(options.exit_device);
	cr_expect_not(options.no_reboot);
	cr_expect_not(options.stats);
	cr_expect_not(options.dry_run);
	cr_expect_not(options.json);
	cr_expect_not(options.quiet);
	options_finish(&options);
}

Test(options, every_option_of_the_manual_is_understood)
{
	struct run_options options =
		accept(WORDS("--kernel", "k", "--initrd", "i", "--append", "console=ttyS0 quiet", "--memory",
			     "4G,hugepages=2M,prefault", "--cpus", "64", "--device", "0000:3b:00.0,slot=7,root-port",
			     "--serial", "file:log", "--iommufd", "9", "--exit-device", "--no-reboot", "--dry-run",
			     "--json", "--stats", "--quiet"));
	cr_expect_str_eq(options.kernel, "k");
	cr_expect_str_eq(options.initrd, "i");
	cr_expect_str_eq(options.append, "console=ttyS0 quiet");
	cr_expect_eq(options.memory.size_bytes, 4096 * MIB);
	cr_expect_eq(options.memory.huge_page_bytes, 2 * MIB);
	cr_expect(options.memory.prefault);
	cr_expect_eq(options.cpus, 64);
	cr_assert_eq(options.device_count, 1);
	cr_expect_str_eq(options.devices[0].address, "0000:3b:00.0");
	cr_expect_eq(options.devices[0].slot, 7);
	cr_expect(options.devices[0].root_port);
	cr_expect_str_eq(options.serial, "file:log");
	cr_expect_eq(options.iommufd, 9);
	cr_expect(options.exit_device);
	cr_expect(options.no_reboot);
	cr_expect(options.dry_run);
	cr_expect(options.json);
	cr_expect(options.stats);
	cr_expect(options.quiet);
	options_finish(&options);
}

Test(options, firmware_needs_no_kernel_and_has_the_exit_device_without_one)
{
	struct run_options options = accept(WORDS("--firmware", "default", "--append", "mode=list"));
	cr_expect_str_eq(options.firmware, "default");
	cr_expect_null(options.kernel);
	cr_expect(options.exit_device);
	options_finish(&options);
	options = accept(WORDS("--firmware", "rom", "--kernel", "k", "--initrd", "i"));
	cr_expect_str_eq(options.firmware, "rom");
	cr_expect_not(options.exit_device);
	options_finish(&options);
	expect_refused(WORDS("--firmware", "rom", "--initrd", "i"), "--initrd i: is for a kernel");
}

Test(options, values_may_follow_an_equals_sign)
{
	struct run_options options = accept(WORDS("--kernel=k", "--memory=64M", "--cpus=2", "--append=a=b"));
	cr_expect_str_eq(options.kernel, "k");
	cr_expect_eq(options.memory.size_bytes, 64 * MIB);
	cr_expect_eq(options.cpus, 2);
	cr_expect_str_eq(options.append, "a=b");
	options_finish(&options);
}

Test(options, devices_are_named_by_address_node_or_descriptor)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--device", "0000:3b:00.0", "--device",
						  "/dev/vfio/devices/vfio3,root-port", "--device", "fd=7,slot=31",
						  "--device", "3c:00.1,slot=1"));
	cr_assert_eq(options.device_count, 4);
	cr_expect_str_eq(options.devices[0].address, "0000:3b:00.0");
	cr_expect_eq(options.devices[0].fd, 0);
	cr_expect_eq(options.devices[0].slot, 0);
	cr_expect_not(options.devices[0].root_port);
	cr_expect_str_eq(options.devices[1].address, "/dev/vfio/devices/vfio3");
	cr_expect(options.devices[1].root_port);
	cr_expect_eq(options.devices[2].fd, 7);
	cr_expect_eq(options.devices[2].slot, 31);
	cr_expect_str_eq(options.devices[3].address, "0000:3c:00.1", "the domain is filled in");
	cr_expect_eq(options.devices[3].slot, 1);
	options_finish(&options);
}

Test(options, thirty_devices_are_accepted_and_one_more_is_not)
{
	const char *words[WORDS_MAX] = {"--kernel", "k"};
	static char addresses[OPTIONS_DEVICES_MAX + 1][16];
	for (unsigned i = 0; i <= OPTIONS_DEVICES_MAX; i++) {
		snprintf(addresses[i], sizeof(addresses[i]), "0000:%02x:00.0", i + 1);
		words[2 + 2 * i] = "--device";
		words[3 + 2 * i] = addresses[i];
	}
	expect_refused(words, "30");
	words[2 + 2 * OPTIONS_DEVICES_MAX] = NULL;
	struct run_options options = accept(words);
	cr_expect_eq(options.device_count, 30);
	options_finish(&options);
	options_finish(&options);
}

/* ---- What is refused ---- */

Test(options, memory_is_shared_with_the_servers_of_devices)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--device", "0000:3b:00.0"));
	cr_expect_not(options.memory.shared);
	options_finish(&options);
	options = accept(WORDS("--kernel", "k", "--device", "vfio-user:/run/a", "--memory", "1G"));
	cr_expect(options.memory.shared);
	options_finish(&options);
}

Test(options, a_kernel_is_required)
{
	expect_refused(WORDS("--memory", "64M"), "--kernel");
	expect_refused(WORDS("--dry-run"), "--kernel");
}

Test(options, wrong_values_are_refused_by_the_name_of_the_option)
{
	static const struct {
		const char *option, *value, *named;
	} cases[] = {
		{"--cpus", "0", "--cpus 0"},
		{"--cpus", "65", "64"},
		{"--cpus", "-1", "--cpus"},
		{"--cpus", "", "--cpus"},
		{"--cpus", "two", "two"},
		{"--cpus", "2x", "2x"},
		{"--cpus", "4294967297", "--cpus"},
		{"--cpus", "99999999999999999999999", "--cpus"},
		{"--memory", "", "memory"},
		{"--memory", "lots", "lots"},
		{"--memory", "0", "memory"},
		{"--memory", "63X", "'X'"},
		{"--memory", "64M,pages", "'pages'"},
		{"--memory", "64M,hugepages=4K", "hugepages=4K"},
		{"--iommufd", "0", "--iommufd"},
		{"--iommufd", "2", "--iommufd"},
		{"--iommufd", "-5", "--iommufd"},
		{"--iommufd", "x", "--iommufd"},
		{"--iommufd", "2147483648", "--iommufd"},
		{"--device", "", "--device"},
		{"--device", ",slot=3", "--device"},
		{"--device", "0000:3b:00.0,slot=0", "slot"},
		{"--device", "0000:3b:00.0,slot=32", "slot"},
		{"--device", "0000:3b:00.0,slot=", "slot"},
		{"--device", "0000:3b:00.0,slot=-1", "slot"},
		{"--device", "0000:3b:00.0,slot", "slot"},
		{"--device", "0000:3b:00.0,slot=5x", "5x"},
		{"--device", "0000:3b:00.0,rootport", "rootport"},
		{"--device", "0000:3b:00.0,root-port=yes", "root-port=yes"},
		{"--device", "fd=", "fd"},
		{"--device", "fd=0", "fd"},
		{"--device", "fd=two", "two"},
		{"--device", "fd=99999999999", "fd"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_refused(WORDS("--kernel", "k", cases[i].option, cases[i].value), cases[i].named);
}

Test(options, unknown_options_and_stray_words_are_refused)
{
	expect_refused(WORDS("--kernel", "k", "--colour", "red"), "--colour");
	expect_refused(WORDS("--kernel", "k", "-z"), "-z");
	expect_refused(WORDS("--kernel", "k", "vmlinuz"), "vmlinuz");
	expect_refused(WORDS("run", "--kernel", "k"), "run");
	expect_refused(WORDS("--kernel"), "--kernel");
	expect_refused(WORDS("--kernel", "k", "--cpus"), "--cpus");
	expect_refused(WORDS("--kernel", "k", "--quiet=yes"), "--quiet");
}

Test(options, json_without_a_plan_is_refused)
{
	expect_refused(WORDS("--kernel", "k", "--json"), "--json");
}

Test(options, a_device_is_given_once_in_whatever_spelling)
{
	static const char *const pairs[][2] = {
		{"0000:3b:00.0", "0000:3b:00.0"},
		{"0000:3b:00.0", "3b:00.0"},
		{"3b:00.0,slot=4", "0000:3b:00.0,root-port"},
		{"3b:00.0", "3B:00.0"},
		{"0000:3b:00.0", "0000:3B:00.0"},
		{"/dev/vfio/devices/vfio3", "/dev/vfio/devices/vfio3"},
		{"fd=5", "fd=5"},
		{"fd=5", "fd=05"},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		expect_refused(WORDS("--kernel", "k", "--device", pairs[i][0], "--device", pairs[i][1]), "given twice");
}

Test(options, neighbours_are_not_duplicates)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--device", "0000:3b:00.0", "--device",
						  "0000:3b:00.1", "--device", "0001:3b:00.0", "--device", "3b:01.0"));
	cr_expect_eq(options.device_count, 4);
	options_finish(&options);
}

Test(options, a_port_is_a_root_port_in_a_slot)
{
	struct run_options options =
		accept(WORDS("--kernel", "k", "--device", "3b:00.0,port=4", "--device", "3b:00.1,port=4"));
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(options.devices[i].slot, 4, "whether they may share it is the topology's affair");
		cr_expect(options.devices[i].root_port);
	}
	options_finish(&options);
	expect_refused(WORDS("--kernel", "k", "--device", "3b:00.0,port=32"), "--device: port");
	expect_refused(WORDS("--kernel", "k", "--device", "3b:00.0,slot=3,port=4"), "slot 3 and slot 4");
}

Test(options, the_topology_mirrors_the_host_unless_told_otherwise)
{
	struct run_options options = accept(WORDS("--kernel", "k"));
	cr_expect_eq(options.topology, TENON_TOPOLOGY_MIRROR);
	options_finish(&options);
	options = accept(WORDS("--kernel", "k", "--topology", "flat"));
	cr_expect_eq(options.topology, TENON_TOPOLOGY_FLAT);
	options_finish(&options);
	expect_refused(WORDS("--kernel", "k", "--topology", "round"), "round");
}

Test(options, a_reset_group_is_named_for_devices_of_other_processes_only)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--device", "vfio-user:/s,reset-group=card"));
	cr_expect_str_eq(options.devices[0].reset_group, "card");
	options_finish(&options);
	expect_refused(WORDS("--kernel", "k", "--device", "vfio-user:/s,reset-group="), "reset-group");
	expect_refused(WORDS("--kernel", "k", "--device", "3b:00.0,reset-group=card"), "3b:00.0: reset-group=");
}

Test(options, a_failure_leaves_nothing_to_finish)
{
	struct run_options options;
	struct tenon_error err;
	cr_expect_lt(parse_words(WORDS("--kernel", "k", "--device", "3b:00.0", "--cpus", "0"), &options, &err), 0);
	cr_expect_eq(options.device_count, 0);
	cr_expect_lt(parse_words(WORDS("--device", "3b:00.0"), &options, &err), 0);
	cr_expect_eq(options.device_count, 0);
}

/* ---- One --device argument ---- */

Test(options, device_text_is_left_as_it_was)
{
	char text[] = "0000:3b:00.0,slot=3,root-port";
	struct device_options device;
	struct tenon_error err = {0};
	cr_assert_eq(options_parse_device(text, &device, &err), 0, "%s", err.message);
	cr_expect_str_eq(text, "0000:3b:00.0,slot=3,root-port");
	cr_expect_str_eq(device.address, "0000:3b:00.0");
	options_finish_device(&device);
}

Test(options, a_device_of_another_process_and_how_its_server_is_waited_for)
{
	struct device_options device;
	struct tenon_error err = {0};
	cr_assert_eq(options_parse_device("vfio-user:/run/d.sock,reconnect=on,timeout=250,root-port", &device, &err), 0,
		     "%s", err.message);
	cr_expect_str_eq(device.address, "vfio-user:/run/d.sock");
	cr_expect(device.reconnect && device.root_port);
	cr_expect_eq(device.timeout_ms, 250);
	options_finish_device(&device);
	cr_assert_eq(options_parse_device("vfio-user:/run/d.sock,reconnect=on,reconnect=off,reset=none", &device, &err),
		     0);
	cr_expect(!device.reconnect && device.timeout_ms == 0);
	options_finish_device(&device);
	static const char *const bad[] = {"vfio-user:/d,reconnect", "vfio-user:/d,reconnect=1",
					  "vfio-user:/d,timeout=0", "vfio-user:/d,timeout=10001",
					  "vfio-user:/d,timeout="};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_refused(WORDS("--kernel", "k", "--device", bad[i]), i < 2 ? "reconnect" : "timeout");
}

/* ---- Migration ---- */

Test(options, a_guest_that_comes_from_elsewhere_needs_its_kernel_or_firmware_all_the_same)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--incoming", "tcp:0.0.0.0:4444", "--dry-run"));
	cr_expect_str_eq(options.incoming, "tcp:0.0.0.0:4444");
	cr_expect(options.dry_run && !options.migration_insecure);
	options_finish(&options);
	expect_refused(WORDS("--incoming", "tcp:0.0.0.0:4444"), "--kernel: missing");
	options = accept(WORDS("--kernel", "k"));
	cr_expect_null(options.incoming);
	options_finish(&options);
}

Test(options, migrations_come_from_hosts_sockets_descriptors_and_files)
{
	static const char *const good[] = {
		"tcp:10.0.0.2:4444", "tcp:[fe80::1]:0", "tcp:host:65535",   "unix:/run/in", "fd:3",
		"file:snapshot",     "unix:a:b",        "file:/tmp/x:y.vm", "tcp:[::]:1"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct run_options options = accept(WORDS("--firmware", "default", "--incoming", good[i]));
		cr_expect_str_eq(options.incoming, good[i]);
		options_finish(&options);
	}
	static const char *const bad[] = {"",           "tcp",         "tcp:",           "tcp:host", "tcp::4444",
					  "tcp:h:",     "tcp:h:65536", "tcp:h:x",        "tcp:h:-1", "tcp:fe80::1:4444",
					  "tcp:[::1:4", "unix:",       "file:",          "fd:",      "fd:2",
					  "fd:x",       "fd:-3",       "fd:99999999999", "udp:h:4",  "/run/in"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_refused(WORDS("--kernel", "k", "--incoming", bad[i]), "--incoming");
}

Test(options, tls_has_certificates_of_both_sides_or_a_key)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--migration-insecure", "--tls-ca", "ca.pem",
						  "--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-peer", "host2"));
	cr_expect(options.migration_insecure);
	cr_expect_str_eq(options.tls.ca, "ca.pem");
	cr_expect_str_eq(options.tls.cert, "c.pem");
	cr_expect_str_eq(options.tls.key, "k.pem");
	cr_expect_str_eq(options.tls.peer, "host2");
	cr_expect_null(options.tls.psk);
	options_finish(&options);
	options = accept(WORDS("--kernel", "k", "--tls-psk", "secret"));
	cr_expect_str_eq(options.tls.psk, "secret");
	options_finish(&options);
	expect_refused(WORDS("--kernel", "k", "--tls-ca", "ca.pem"), "tls-cert");
	expect_refused(WORDS("--kernel", "k", "--tls-cert", "c.pem", "--tls-key", "k.pem"), "tls-ca");
	expect_refused(WORDS("--kernel", "k", "--tls-psk", "p", "--tls-ca", "ca.pem"), "tls-psk");
	expect_refused(WORDS("--kernel", "k", "--tls-psk", "p", "--tls-peer", "h"), "tls-psk");
	expect_refused(WORDS("--kernel", "k", "--tls-peer", "h"), "tls-peer");
}

Test(options, a_device_that_nobody_tracks_may_be_let_through)
{
	struct run_options options = accept(WORDS("--kernel", "k", "--device", "3b:00.0,dirty-tracking=assume-all",
						  "--device", "3c:00.0", "--device", "3d:00.0,dirty-tracking=require"));
	cr_expect(options.devices[0].assume_all_dirty);
	cr_expect_not(options.devices[1].assume_all_dirty);
	cr_expect_not(options.devices[2].assume_all_dirty);
	options_finish(&options);
	expect_refused(WORDS("--kernel", "k", "--device", "3b:00.0,dirty-tracking=no"), "dirty-tracking=no");
}
