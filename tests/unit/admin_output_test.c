// SPDX-License-Identifier: MIT
/* What the commands print: the same every time, valid JSON whatever sysfs holds, aligned columns; and what reset refuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "commands.h"
#include "table.h"

#define PORT "0000:00:00.0"
#define NVME "0000:01:00.0"
#define NIC  "0000:01:00.1"

static char printed[65536];
static struct tenon_error error;

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_pci(&(struct fake_pci){.bdf = PORT, .class_code = 0x060400, .group = 1, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){
		.bdf = NVME, .above = PORT, .class_code = 0x010802, .group = 17, .driver = "vfio-pci"});
	fake_pci(
		&(struct fake_pci){.bdf = NIC, .above = PORT, .class_code = 0x020000, .group = 17, .driver = "e1000e"});
}

TestSuite(admin_output, .init = make_host, .fini = fake_host_destroy);

/* Runs a command and keeps what it printed. */
static int run(int (*command)(const struct host *host, const struct options *options, struct tenon_error *err),
	       struct options options)
{
	FILE *file = tmpfile();
	cr_assert(file);
	fflush(stdout);
	int before = dup(STDOUT_FILENO);
	dup2(fileno(file), STDOUT_FILENO);
	while (options.arguments[options.argument_count])
		options.argument_count++;
	error.code = 0;
	int status = command(&fake_host, &options, &error);
	fflush(stdout);
	dup2(before, STDOUT_FILENO);
	close(before);
	rewind(file);
	printed[fread(printed, 1, sizeof(printed) - 1, file)] = '\0';
	fclose(file);
	return status;
}

static json_object *run_json(int (*command)(const struct host *host, const struct options *options,
					    struct tenon_error *err))
{
	cr_assert_eq(run(command, (struct options){.json = true}), STATUS_OK, "%s", error.message);
	json_object *parsed = json_tokener_parse(printed);
	cr_assert(parsed, "no JSON: %s", printed);
	return parsed;
}

/* The keys of an object in their order, commas between. */
static const char *keys_of(json_object *object)
{
	static char keys[1024];
	keys[0] = '\0';
	json_object_object_foreach(object, key, value)
	{
		(void)value;
		snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "%s%s", keys[0] ? "," : "", key);
	}
	return keys;
}

Test(admin_output, keys_of_a_device_are_these)
{
	json_object *list = run_json(command_devices);
	cr_assert_eq(json_object_array_length(list), 3);
	json_object *nvme = json_object_array_get_idx(list, 1);
	cr_assert_str_eq(
		keys_of(nvme),
		"address,class,class_name,vendor,vendor_name,device,device_name,subsystem,driver,driver_override,"
		"iommu_group,iommu,coherent,reset,sriov,numa_node,bars,rom_bytes,msi_vectors,msix_vectors,boot_display,"
		"migration,vfio_device,vfio_group,uses,assign");
	cr_assert_str_eq(keys_of(json_object_object_get(nvme, "assign")), "can,verdict,because,do");
	cr_assert_str_eq(keys_of(json_object_object_get(nvme, "reset")), "methods,bus_reset,with");
	cr_assert_str_eq(keys_of(json_object_object_get(nvme, "sriov")), "role,vfs,vfs_total,pf");
	cr_assert_str_eq(json_object_get_string(json_object_object_get(nvme, "vfio_device")),
			 "/dev/vfio/devices/vfio0");
	cr_assert_eq(json_object_object_get(nvme, "numa_node"), NULL);
	json_object_put(list);
}

Test(admin_output, two_runs_print_the_same)
{
	static int (*const commands[])(const struct host *host, const struct options *options,
				       struct tenon_error *err) = {command_devices, command_groups, command_topology};
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned json = 0; json < 2; json++) {
			cr_assert_eq(run(commands[i], (struct options){.json = json}), STATUS_OK);
			char *first = strdup(printed);
			cr_assert_eq(run(commands[i], (struct options){.json = json}), STATUS_OK);
			cr_assert_str_eq(printed, first);
			free(first);
		}
	}
}

Test(admin_output, json_stays_json_whatever_sysfs_holds)
{
	static int (*const commands[])(const struct host *host, const struct options *options,
				       struct tenon_error *err) = {command_devices, command_groups, command_topology,
								   command_doctor};
	fake_raw_link(fake_path(NIC, "/driver"), "../x/\"\\\n\x1b\xff},{");
	fake_file(fake_path(NIC, "/driver_override"), "\"\\\x01");
	fake_file(fake_path(NIC, "/reset_method"), "\" \\ \xc3\x28");
	for (unsigned i = 0; i < 4; i++) {
		run(commands[i], (struct options){.json = true});
		json_object *parsed = json_tokener_parse(printed);
		cr_assert(parsed, "%u: %s", i, printed);
		json_object_put(parsed);
		for (const char *c = printed; *c; c++)
			cr_assert(*c == '\n' || (*c >= ' ' && *c <= '~'), "%u: byte %02x", i, (unsigned char)*c);
	}
}

Test(admin_output, graph_quotes_what_would_end_a_string)
{
	fake_raw_link(fake_path(NIC, "/driver"), "../x/a\"b\\");
	cr_assert_eq(run(command_topology, (struct options){.dot = true}), STATUS_OK);
	cr_assert(strstr(printed, "driver a\\\"b\\\\\""), "%s", printed);
	cr_assert(strstr(printed, "subgraph cluster_group_17"), "%s", printed);
	cr_assert(strstr(printed, "\"" NVME "\" -> \"" NIC "\" [style=dashed"), "%s", printed);
}

Test(admin_output, two_formats_at_once_are_refused)
{
	cr_assert_eq(run(command_topology, (struct options){.dot = true, .json = true}), STATUS_USAGE);
	cr_assert_str_eq(error.message, "--json --dot: two formats; give one of them");
}

Test(admin_output, list_shows_devices_and_leaves_bridges_out)
{
	cr_assert_eq(run(command_devices, (struct options){0}), STATUS_OK);
	cr_assert(strstr(printed, "\n" NVME "  vfio-pci  17 "), "%s", printed);
	cr_assert_not(strstr(printed, "\n" PORT), "%s", printed);
	cr_assert(strstr(printed, "1 bridge and the like are left out; tenon devices --all lists them."), "%s",
		  printed);
	cr_assert_eq(run(command_devices, (struct options){.all = true}), STATUS_OK);
	cr_assert(strstr(printed, "\n" PORT), "%s", printed);
}

Test(admin_output, groups_name_the_member_that_blocks)
{
	cr_assert_eq(run(command_groups, (struct options){0}), STATUS_OK);
	cr_assert(strstr(printed, "17     " NVME "  vfio-pci  VFIO "), "%s", printed);
	cr_assert(strstr(printed, "17     " NIC "  e1000e    blocks"), "%s", printed);
	cr_assert(strstr(printed,
			 "as a whole: yes, after: tenon bind --group " NVME " (blocked by " NIC " (driver e1000e))"),
		  "%s", printed);
}

Test(admin_output, tree_with_a_loop_ends)
{
	/* Each is, by its path, below the other. */
	fake_folder("/sys/devices/pci0000:00/0000:00:11.0/0000:00:10.0");
	fake_folder("/sys/devices/pci0000:00/0000:00:10.0/0000:00:11.0");
	fake_link("/sys/bus/pci/devices/0000:00:10.0", "/sys/devices/pci0000:00/0000:00:11.0/0000:00:10.0");
	fake_link("/sys/bus/pci/devices/0000:00:11.0", "/sys/devices/pci0000:00/0000:00:10.0/0000:00:11.0");
	cr_assert_eq(run(command_topology, (struct options){0}), STATUS_OK);
	json_object_put(run_json(command_topology));
}

Test(admin_output, columns_are_as_wide_as_their_longest_cell)
{
	struct table *table = table_create((const char *const[]){"A", "LONG", "Z", NULL});
	char *text = NULL;
	size_t size = 0;
	table_row(table, (const char *const[]){"wide cell", "x", "end"});
	table_note(table, "a note that is longer than any cell of the table");
	table_row(table, (const char *const[]){"", "y", ""});
	FILE *out = open_memstream(&text, &size);
	table_print(table, out);
	fclose(out);
	table_destroy(table);
	cr_assert_str_eq(text, "A          LONG  Z\n"
			       "wide cell  x     end\n"
			       "    a note that is longer than any cell of the table\n"
			       "-          y     -\n");
	free(text);
}

Test(admin_output, reset_of_a_host_device_is_refused)
{
	cr_assert_eq(run(command_reset, (struct options){.arguments = {NIC}, .plan = true}), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 NIC ": is not bound to VFIO (driver e1000e), and a reset would pull the device from under "
			     "that; tenon bind " NIC);
	cr_assert_eq(run(command_reset, (struct options){.arguments = {PORT}, .plan = true}), STATUS_FAILED);
	cr_assert_str_eq(error.message, PORT ": is a bridge or the like (driver pcieport); reset the devices below it");
}

Test(admin_output, reset_of_a_vms_device_is_refused_with_the_process)
{
	fake_open(4242, "tenon", "/dev/vfio/devices/vfio0");
	cr_assert_eq(run(command_reset, (struct options){.arguments = {NVME}, .yes = true}), STATUS_FAILED);
	cr_assert_str_eq(error.message, NVME
			 ": process 4242 (tenon) has it through VFIO: /dev/vfio/devices/vfio0, IOMMU group 17; end "
			 "the VM: kill 4242");
}
