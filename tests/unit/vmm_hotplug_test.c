// SPDX-License-Identifier: MIT
/* What devices report before hotplug's thread looks. */
#include <criterion/criterion.h>

#include "hotplug_tasks.h"

Test(vmm_hotplug, a_device_that_is_gone_again_is_not_back)
{
	unsigned events = hotplug_tasks_merge(0, HOTPLUG_EVENT_GONE);
	events = hotplug_tasks_merge(events, HOTPLUG_EVENT_BACK);
	cr_expect_eq(events, HOTPLUG_EVENT_GONE | HOTPLUG_EVENT_BACK, "its guest sees it go, and come");
	events = hotplug_tasks_merge(events, HOTPLUG_EVENT_GONE);
	cr_expect_eq(events, HOTPLUG_EVENT_GONE);
}

Test(vmm_hotplug, other_events_wait_beside)
{
	unsigned events = hotplug_tasks_merge(HOTPLUG_EVENT_REQUESTED | HOTPLUG_EVENT_BACK, HOTPLUG_EVENT_GONE);
	cr_expect_eq(events, HOTPLUG_EVENT_REQUESTED | HOTPLUG_EVENT_GONE);
	cr_expect_eq(hotplug_tasks_merge(events, HOTPLUG_EVENT_ERROR),
		     HOTPLUG_EVENT_REQUESTED | HOTPLUG_EVENT_GONE | HOTPLUG_EVENT_ERROR);
}
