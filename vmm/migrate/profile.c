// SPDX-License-Identifier: MIT
/* The text of a profile: one JSON object. The reader sees whatever a peer sends, and takes nothing that a machine cannot be. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "../layout.h"
#include "profile.h"

#define FORMAT      1
#define DEPTH_MAX   6 /* object, devices, device, bars, bar; and one to spare for what later versions add */
#define ADDRESS_END (INT64_C(1) << 52)

void profile_finish(struct profile *profile)
{
	free(profile->cpuid);
	*profile = (struct profile){0};
}

/* ---- Out ---- */

static void add_number(json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static void add_flag(json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

static int add_cpuid(json_object *object, const struct profile *profile, struct tenon_error *err)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = profile->cpuid;
	char *text = profile->cpuid_bytes <= PROFILE_CPUID_MAX ? malloc(2 * profile->cpuid_bytes + 1) : NULL;
	if (!text)
		return tenon_fail(err, -ENOMEM, "machine: cannot describe its CPU: out of memory; free some memory");
	for (size_t i = 0; i < profile->cpuid_bytes; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * profile->cpuid_bytes] = '\0';
	json_object_object_add(object, "cpuid", json_object_new_string(text));
	free(text);
	return 0;
}

static json_object *memory_json(const struct profile *profile)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < profile->memory_count; i++) {
		json_object *one = json_object_new_object();
		add_number(one, "first", profile->memory[i].first);
		add_number(one, "bytes", profile->memory[i].size_bytes);
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *firmware_json(const struct profile *profile)
{
	char sum[17];
	json_object *object = json_object_new_object();
	snprintf(sum, sizeof(sum), "%016" PRIx64, profile->rom_sum);
	add_number(object, "bytes", profile->rom_bytes);
	json_object_object_add(object, "sum", json_object_new_string(sum));
	return object;
}

static json_object *bridges_json(const struct profile *profile)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < profile->bridge_count; i++) {
		const struct profile_bridge *bridge = &profile->bridges[i];
		json_object *one = json_object_new_object();
		add_number(one, "device", bridge->device);
		add_number(one, "function", bridge->function);
		add_flag(one, "conventional", bridge->conventional);
		add_flag(one, "slot", bridge->slot);
		add_flag(one, "isolated", bridge->isolated);
		add_flag(one, "ari", bridge->ari);
		add_flag(one, "bus_reset", bridge->bus_reset);
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *bars_json(const struct profile_device *device)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		const struct profile_bar *bar = &device->bars[i];
		json_object *one = json_object_new_object();
		add_number(one, "bytes", bar->size_bytes);
		add_flag(one, "io", bar->io);
		add_flag(one, "is_64bit", bar->is_64bit);
		add_flag(one, "prefetchable", bar->prefetchable);
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *devices_json(const struct profile *profile)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < profile->device_count; i++) {
		const struct profile_device *device = &profile->devices[i];
		json_object *one = json_object_new_object();
		json_object_object_add(one, "name", json_object_new_string(device->name));
		add_number(one, "device", device->device);
		add_number(one, "function", device->function);
		add_flag(one, "bridge", device->bridge);
		add_number(one, "devfn", device->devfn);
		add_number(one, "vendor_id", device->vendor_id);
		add_number(one, "device_id", device->device_id);
		add_number(one, "subsystem_vendor_id", device->subsystem_vendor_id);
		add_number(one, "subsystem_id", device->subsystem_id);
		add_number(one, "class", device->class_code);
		add_flag(one, "pcie", device->pcie);
		add_number(one, "intx_pin", device->intx_pin);
		add_number(one, "msi_vectors", device->msi_vectors);
		add_number(one, "msix_vectors", device->msix_vectors);
		json_object_object_add(one, "bars", bars_json(device));
		add_number(one, "rom_bytes", device->rom_bytes);
		add_flag(one, "migratable", device->migratable);
		add_flag(one, "p2p", device->p2p);
		add_flag(one, "pre_copy", device->pre_copy);
		json_object_array_add(list, one);
	}
	return list;
}

int profile_write(const struct profile *profile, char **text, struct tenon_error *err)
{
	json_object *object = json_object_new_object();
	add_number(object, "format", FORMAT);
	json_object_object_add(object, "tenon", json_object_new_string(TENON_VERSION));
	add_number(object, "layout", profile->layout);
	json_object_object_add(object, "memory", memory_json(profile));
	add_number(object, "cpus", profile->cpus);
	add_number(object, "address_bits", profile->address_bits);
	if (profile->rom_bytes)
		json_object_object_add(object, "firmware", firmware_json(profile));
	add_flag(object, "exit_device", profile->exit_device);
	add_number(object, "buses", profile->buses);
	json_object_object_add(object, "bridges", bridges_json(profile));
	json_object_object_add(object, "devices", devices_json(profile));
	int code = add_cpuid(object, profile, err);
	if (code == 0) {
		const char *plain = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
		*text = plain && strlen(plain) <= PROFILE_TEXT_MAX ? strdup(plain) : NULL;
		if (!*text)
			code = tenon_fail(err, -ENOMEM, "machine: cannot describe it: out of memory; free some memory");
	}
	json_object_put(object);
	return code;
}

/* ---- In ---- */

/* Fails once and stays so; what is got after that is zero. */
struct reader {
	struct tenon_error *err;
	int code;
};

static void wrong(struct reader *reader, const char *key)
{
	if (reader->code == 0)
		reader->code = tenon_fail(reader->err, -EINVAL,
					  "the source's description: \"%s\" is missing, or not what it can be; use the "
					  "same version of tenon at both sides",
					  key);
}

static json_object *get(struct reader *reader, json_object *object, const char *key, enum json_type type)
{
	json_object *value = NULL;
	if (reader->code == 0 && (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, type)))
		wrong(reader, key);
	return reader->code == 0 ? value : NULL;
}

static uint64_t get_number(struct reader *reader, json_object *object, const char *key, uint64_t last)
{
	json_object *value = get(reader, object, key, json_type_int);
	int64_t number = value ? json_object_get_int64(value) : 0;
	if (number >= 0 && (uint64_t)number <= last)
		return (uint64_t)number;
	wrong(reader, key);
	return 0;
}

static bool get_flag(struct reader *reader, json_object *object, const char *key)
{
	json_object *value = get(reader, object, key, json_type_boolean);
	return value && json_object_get_boolean(value);
}

/* One that can go into messages: no control characters, no zero byte inside. */
static void get_text(struct reader *reader, json_object *object, const char *key, char *out, size_t capacity)
{
	json_object *value = get(reader, object, key, json_type_string);
	const char *text = value ? json_object_get_string(value) : "";
	size_t length = strlen(text);
	bool plain = length < capacity && (!value || length == (size_t)json_object_get_string_len(value));
	for (size_t i = 0; plain && i < length; i++)
		plain = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
	if (!plain)
		wrong(reader, key);
	snprintf(out, capacity, "%s", plain ? text : "");
}

/* @return how many members the array has, `last` at most */
static unsigned get_array(struct reader *reader, json_object *object, const char *key, size_t last, json_object **out)
{
	*out = get(reader, object, key, json_type_array);
	size_t count = *out ? json_object_array_length(*out) : 0;
	if (count <= last)
		return (unsigned)count;
	wrong(reader, key);
	return 0;
}

static json_object *get_member(struct reader *reader, json_object *array, const char *key, unsigned index)
{
	json_object *value = reader->code == 0 ? json_object_array_get_idx(array, index) : NULL;
	if (!json_object_is_type(value, json_type_object))
		wrong(reader, key);
	return reader->code == 0 ? value : NULL;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void get_cpuid(struct reader *reader, json_object *object, struct profile *out)
{
	json_object *value = get(reader, object, "cpuid", json_type_string);
	size_t length = value ? (size_t)json_object_get_string_len(value) : 0;
	const char *text = value ? json_object_get_string(value) : "";
	bool right = length % 2 == 0 && length / 2 <= PROFILE_CPUID_MAX && strspn(text, "0123456789abcdef") == length;
	uint8_t *bytes = right ? malloc(length / 2 + 1) : NULL;
	if (!bytes) {
		wrong(reader, "cpuid");
		return;
	}
	for (size_t i = 0; i < length / 2; i++)
		bytes[i] = (uint8_t)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
	out->cpuid = bytes;
	out->cpuid_bytes = length / 2;
}

static void get_memory(struct reader *reader, json_object *object, struct profile *out)
{
	json_object *list;
	out->memory_count = get_array(reader, object, "memory", sizeof(out->memory) / sizeof(out->memory[0]), &list);
	for (unsigned i = 0; i < out->memory_count; i++) {
		json_object *one = get_member(reader, list, "memory", i);
		out->memory[i].first = get_number(reader, one, "first", ADDRESS_END);
		out->memory[i].size_bytes = get_number(reader, one, "bytes", ADDRESS_END);
	}
}

static void get_firmware(struct reader *reader, json_object *object, struct profile *out)
{
	char sum[17];
	if (reader->code < 0 || !json_object_object_get_ex(object, "firmware", NULL))
		return;
	json_object *firmware = get(reader, object, "firmware", json_type_object);
	out->rom_bytes = get_number(reader, firmware, "bytes", LAYOUT_ROM_BYTES_MAX);
	get_text(reader, firmware, "sum", sum, sizeof(sum));
	if (strspn(sum, "0123456789abcdef") != sizeof(sum) - 1)
		wrong(reader, "sum");
	else
		out->rom_sum = strtoull(sum, NULL, 16);
}

static void get_bridges(struct reader *reader, json_object *object, struct profile *out)
{
	json_object *list;
	out->bridge_count = get_array(reader, object, "bridges", PCI_BRIDGES_MAX, &list);
	for (unsigned i = 0; i < out->bridge_count; i++) {
		struct profile_bridge *bridge = &out->bridges[i];
		json_object *one = get_member(reader, list, "bridges", i);
		bridge->device = (unsigned)get_number(reader, one, "device", PCI_DEVICES - 1);
		bridge->function = (unsigned)get_number(reader, one, "function", PCI_FUNCTIONS - 1);
		bridge->conventional = get_flag(reader, one, "conventional");
		bridge->slot = get_flag(reader, one, "slot");
		bridge->isolated = get_flag(reader, one, "isolated");
		bridge->ari = get_flag(reader, one, "ari");
		bridge->bus_reset = get_flag(reader, one, "bus_reset");
	}
}

static void get_bars(struct reader *reader, json_object *object, struct profile_device *device)
{
	json_object *list;
	if (get_array(reader, object, "bars", TENON_DEVICE_BARS, &list) != TENON_DEVICE_BARS)
		wrong(reader, "bars");
	for (unsigned i = 0; reader->code == 0 && i < TENON_DEVICE_BARS; i++) {
		json_object *one = get_member(reader, list, "bars", i);
		device->bars[i].size_bytes = get_number(reader, one, "bytes", INT64_MAX);
		device->bars[i].io = get_flag(reader, one, "io");
		device->bars[i].is_64bit = get_flag(reader, one, "is_64bit");
		device->bars[i].prefetchable = get_flag(reader, one, "prefetchable");
	}
}

static void get_device(struct reader *reader, json_object *one, struct profile_device *device)
{
	get_text(reader, one, "name", device->name, sizeof(device->name));
	device->device = (unsigned)get_number(reader, one, "device", PCI_DEVICES - 1);
	device->function = (unsigned)get_number(reader, one, "function", PCI_FUNCTIONS - 1);
	device->bridge = get_flag(reader, one, "bridge");
	device->devfn = (unsigned)get_number(reader, one, "devfn", UINT8_MAX);
	device->vendor_id = (uint16_t)get_number(reader, one, "vendor_id", UINT16_MAX);
	device->device_id = (uint16_t)get_number(reader, one, "device_id", UINT16_MAX);
	device->subsystem_vendor_id = (uint16_t)get_number(reader, one, "subsystem_vendor_id", UINT16_MAX);
	device->subsystem_id = (uint16_t)get_number(reader, one, "subsystem_id", UINT16_MAX);
	device->class_code = (uint32_t)get_number(reader, one, "class", 0xffffff);
	device->pcie = get_flag(reader, one, "pcie");
	device->intx_pin = (unsigned)get_number(reader, one, "intx_pin", 4);
	device->msi_vectors = (unsigned)get_number(reader, one, "msi_vectors", 32);
	device->msix_vectors = (unsigned)get_number(reader, one, "msix_vectors", 2048);
	get_bars(reader, one, device);
	device->rom_bytes = get_number(reader, one, "rom_bytes", INT64_MAX);
	device->migratable = get_flag(reader, one, "migratable");
	device->p2p = get_flag(reader, one, "p2p");
	device->pre_copy = get_flag(reader, one, "pre_copy");
}

static int read_object(json_object *object, struct profile *out, struct tenon_error *err)
{
	struct reader reader = {.err = err};
	json_object *devices;
	uint64_t format = get_number(&reader, object, "format", INT64_MAX);
	if (reader.code == 0 && format != FORMAT)
		return tenon_fail(err, -ENOTSUP,
				  "the source's description: is of format %" PRIu64
				  ", and this tenon knows %d; use the "
				  "same version of tenon at both sides",
				  format, FORMAT);
	out->layout = (unsigned)get_number(&reader, object, "layout", UINT32_MAX);
	get_memory(&reader, object, out);
	out->cpus = (unsigned)get_number(&reader, object, "cpus", UINT32_MAX);
	out->address_bits = (unsigned)get_number(&reader, object, "address_bits", 64);
	get_firmware(&reader, object, out);
	out->exit_device = get_flag(&reader, object, "exit_device");
	out->buses = (unsigned)get_number(&reader, object, "buses", UINT32_MAX);
	get_bridges(&reader, object, out);
	out->device_count = get_array(&reader, object, "devices", SLOTS_MAX, &devices);
	for (unsigned i = 0; i < out->device_count; i++)
		get_device(&reader, get_member(&reader, devices, "devices", i), &out->devices[i]);
	get_cpuid(&reader, object, out);
	return reader.code;
}

int profile_read(const char *text, size_t bytes, struct profile *out, struct tenon_error *err)
{
	*out = (struct profile){0};
	if (bytes == 0 || bytes > PROFILE_TEXT_MAX)
		return tenon_fail(err, -EINVAL, "the source's description: has %zu bytes, and 1 to %u are possible",
				  bytes, PROFILE_TEXT_MAX);
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return tenon_fail(err, -ENOMEM, "the source's description: out of memory; free some memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	json_object *object = json_tokener_parse_ex(tokener, text, (int)bytes);
	enum json_tokener_error why = json_tokener_get_error(tokener);
	int code;
	if (why == json_tokener_success && json_tokener_get_parse_end(tokener) == bytes &&
	    json_object_is_type(object, json_type_object))
		code = read_object(object, out, err);
	else
		code = tenon_fail(err, -EINVAL, "the source's description: no JSON object: %s; migrate again",
				  why == json_tokener_success    ? "something else"
				  : why == json_tokener_continue ? "it ends too early"
								 : json_tokener_error_desc(why));
	json_object_put(object);
	json_tokener_free(tokener);
	if (code < 0)
		profile_finish(out);
	return code;
}
