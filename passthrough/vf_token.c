// SPDX-License-Identifier: MIT
/*
 * VF tokens. The kernel lets nobody use a VF of a PF that VFIO holds unless both present the same token, because a PF's user
 * can read and corrupt what goes through its VFs. On the group interface the token goes by the device's name
 * (group_file.c), on the character device by the binding (iommufd.c) where the kernel knows that.
 * Source: Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "group.h"
#include "kernel.h"
#include "uapi.h"
#include "vf_token.h"

#define SYSFS_DEVICES "/sys/bus/pci/devices/"

bool uuid_parse(const char *text, uint8_t uuid[16])
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	unsigned digits = 0;
	if (strlen(text) != strlen(form))
		return false;
	for (unsigned i = 0; form[i]; i++) {
		if (form[i] == '-') {
			if (text[i] != '-')
				return false;
			continue;
		}
		if (!isxdigit((unsigned char)text[i]))
			return false;
		int low = tolower((unsigned char)text[i]);
		unsigned value = (unsigned)(low <= '9' ? low - '0' : low - 'a' + 10);
		uuid[digits / 2] = (uint8_t)(digits % 2 ? uuid[digits / 2] | value : value << 4);
		digits++;
	}
	return true;
}

int vf_token_parse(const char *text, const char *name, struct vf_token *out, struct tenon_error *err)
{
	if (!uuid_parse(text, out->uuid))
		return tenon_fail(err, -EINVAL, "%s: \"%.40s\" is no VF token; give a UUID, such as uuidgen prints",
				  name, text);
	strcpy(out->text, text);
	return 0;
}

int vf_token_check(const char *bdf, struct tenon_error *err)
{
	char path[128], pf[32], driver[64] = "none", line[32];
	if (!bdf[0])
		return 0;
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/physfn", bdf);
	if (kernel_link_name(path, pf, sizeof(pf)) < 0) {
		snprintf(path, sizeof(path), SYSFS_DEVICES "%s/sriov_totalvfs", bdf);
		if (kernel_read_line(path, line, sizeof(line)) < 0)
			return tenon_fail(
				err, -EINVAL,
				"%s: has no use for a VF token, being neither an SR-IOV PF nor a VF; leave it out",
				bdf);
		return 0;
	}
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/driver", pf);
	kernel_link_name(path, driver, sizeof(driver));
	if (!strstr(driver, "vfio"))
		return tenon_fail(
			err, -EINVAL,
			"%s: has no use for a VF token, as the driver of its PF %s is %s, not vfio-pci; leave it "
			"out",
			bdf, pf, driver);
	return 0;
}

unsigned vf_token_holders(const char *pf, char *text, size_t capacity)
{
	char path[128], vf[32], driver[64];
	unsigned count = 0;
	size_t used = 0;
	text[0] = '\0';
	for (unsigned i = 0; pf[0] && used < capacity; i++) {
		snprintf(path, sizeof(path), SYSFS_DEVICES "%s/virtfn%u", pf, i);
		if (kernel_link_name(path, vf, sizeof(vf)) < 0)
			break;
		snprintf(path, sizeof(path), SYSFS_DEVICES "%s/driver", vf);
		if (kernel_link_name(path, driver, sizeof(driver)) < 0 || !group_driver_is_vfio(driver))
			continue;
		used += (size_t)snprintf(text + used, capacity - used, "%s%s (%s)", count ? ", " : "", vf, driver);
		count++;
	}
	return count;
}

int vf_token_refused(const struct vf_token *token, const char *name, struct tenon_error *err)
{
	if (token)
		return tenon_fail(
			err, -EACCES,
			"%s: the VF token is not the one that is in use; give that of whoever uses its PF or VFs",
			name);
	return tenon_fail(err, -EACCES,
			  "%s: needs a VF token, as its PF (or, of a PF, one of its VFs) is used through VFIO; give "
			  "theirs as vf-token=UUID",
			  name);
}

int vf_token_set(int fd, const struct vf_token *token, const char *name, struct tenon_error *err)
{
	union {
		struct vfio_device_feature head;
		uint8_t bytes[sizeof(struct vfio_device_feature) + sizeof(token->uuid)];
	} request = {.head = {.argsz = sizeof(request.bytes),
			      .flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN}};
	memcpy(request.bytes + sizeof(request.head), token->uuid, sizeof(token->uuid));
	int code = kernel_ioctl(fd, VFIO_DEVICE_FEATURE, &request);
	if (code < 0 && code != -ENOTTY)
		return tenon_fail(err, code, "%s: cannot set its VF token: %s; its VFs cannot be used without", name,
				  strerror(-code));
	return 0;
}
