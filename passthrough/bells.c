// SPDX-License-Identifier: MIT
/* See bells.h. The eventfds are the transport's. */
#include <linux/vfio.h>

#include "bells.h"
#include "device.h"

int bells_query(struct tenon_device *device, unsigned bar, struct tenon_error *err)
{
	struct bells *bells = &device->bars.bar[bar].bells;
	struct transport *transport = device->transport;
	*bells = (struct bells){0};
	if (!transport->remote || !device->ops->ioeventfd_attach || device->info.bars[bar].io)
		return 0;
	int count =
		transport->remote->doorbells(transport, VFIO_PCI_BAR0_REGION_INDEX + bar, bells->bell, BELLS_MAX, err);
	bells->count = count > 0 ? (unsigned)count : 0;
	return count < 0 ? count : 0;
}

static struct tenon_ioeventfd describe(const struct transport_doorbell *bell, uint64_t base)
{
	return (struct tenon_ioeventfd){
		.size = sizeof(struct tenon_ioeventfd),
		.gpa = base + bell->offset,
		.value = bell->value,
		.eventfd = bell->eventfd,
		.width_bytes = (uint8_t)bell->width_bytes,
		.match = bell->match,
	};
}

void bells_withdraw(struct tenon_device *device, struct bar *bar, uint64_t wanted_base)
{
	struct bells *bells = &bar->bells;
	if (bells->base == wanted_base)
		return;
	for (unsigned i = 0; i < bells->count; i++) {
		const struct tenon_ioeventfd ioeventfd = describe(&bells->bell[i], bells->base);
		if (bells->attached >> i & 1)
			device->ops->ioeventfd_detach(device->host, &ioeventfd);
	}
	bells->attached = 0;
	bells->base = 0;
}

void bells_place(struct tenon_device *device, struct bar *bar, uint64_t wanted_base)
{
	struct bells *bells = &bar->bells;
	struct tenon_error error;
	if (!wanted_base || bells->base)
		return;
	bells->base = wanted_base;
	for (unsigned i = 0; i < bells->count; i++) {
		const struct tenon_ioeventfd ioeventfd = describe(&bells->bell[i], wanted_base);
		if (device->ops->ioeventfd_attach(device->host, &ioeventfd, &error) == 0)
			bells->attached |= 1u << i;
		else if (!bells->told) /* once: the guest may move the BAR as often as it likes */
			device_log(device, TENON_LOG_WARNING, "%s: a doorbell in BAR %u works trapped, but slowly: %s",
				   device->address.name, bar->placed.bar, error.message);
		bells->told |= !(bells->attached >> i & 1);
	}
}
