// SPDX-License-Identifier: MIT
/* The view of the host that commands begin with, how they end, and the ways in which they print. */
#include <errno.h>
#include <stdio.h>

#include "commands.h"
#include "text.h"

int view_open(const struct host *host, struct view *view, struct tenon_error *err)
{
	*view = (struct view){.host = host};
	int code = inventory_read(host, &view->inventory, err);
	if (code < 0)
		return code;
	activity_read(host, &view->activity);
	variants_read(host, &view->variants);
	view->names = names_open();
	view->facts = (struct facts){host, &view->inventory, &view->activity};
	return 0;
}

void view_finish(struct view *view)
{
	names_close(view->names);
	variants_finish(&view->variants);
	activity_finish(&view->activity);
	inventory_finish(&view->inventory);
}

int status_of(int code)
{
	return code == 0 ? STATUS_OK : code == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}

int run_on_selection(const struct host *host, const struct options *options,
		     int (*act)(const struct view *view, const struct selection *selection,
				const struct options *options, struct tenon_error *err),
		     struct tenon_error *err)
{
	struct view view;
	struct selection selection;
	int code = view_open(host, &view, err);
	if (code == 0)
		code = selection_make(&view.inventory, options, &selection, err);
	if (code == 0)
		code = act(&view, &selection, options, err);
	view_finish(&view);
	return status_of(code);
}

int print_json(json_object *object, struct tenon_error *err)
{
	const char *text = object ? json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
										   JSON_C_TO_STRING_NOSLASHESCAPE)
				  : NULL;
	if (text)
		puts(text);
	json_object_put(object);
	return text ? 0 : tenon_fail(err, -ENOMEM, "cannot print: out of memory; free some memory");
}

void json_add_string(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text && text[0] ? json_object_new_string(text) : NULL);
}

void describe_device(const struct view *view, const struct device *device, char *text, size_t capacity)
{
	char class[64], vendor[64], name[96];
	names_class(view->names, device, class, sizeof(class));
	names_vendor(view->names, device, vendor, sizeof(vendor));
	names_device(view->names, device, name, sizeof(name));
	snprintf(text, capacity, "%s: %s %s", class, vendor, name);
}

void list_reset_group(const struct inventory *inventory, const struct device *device, char *text, size_t capacity)
{
	text[0] = '\0';
	for (unsigned i = 0; i < inventory->count; i++) {
		const struct device *other = &inventory->devices[i];
		if (other != device && device_resets_with(inventory, device, other))
			text_add(text, capacity, "%s%s", text[0] ? " " : "", other->bdf);
	}
}
