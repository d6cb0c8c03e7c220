// SPDX-License-Identifier: MIT
/* The KVM-VFIO device on the real KVM. That a real VFIO file is accepted is proven in the lab, where there are some. */
#include <errno.h>
#include <fcntl.h>

#include "kvm_guest.h"

Test(kvm_vfio_device, a_file_that_is_not_vfios_is_refused_by_number)
{
	guest_skip_without_kvm();
	struct tenon_error error;
	struct tenon_vm *vm;
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int result = tenon_vm_file_add(vm, fd, &error);
	if (result == -ENODEV || result == -ENOTSUP) {
		close(fd);
		tenon_vm_destroy(vm);
		cr_skip_test("%s", error.message);
	}
	char number[32];
	snprintf(number, sizeof(number), "file descriptor %d ", fd);
	cr_expect_eq(result, -EINVAL);
	cr_expect_not_null(strstr(error.message, number), "%s", error.message);
	cr_expect_lt(tenon_vm_file_add(vm, -1, &error), 0, "and the device is not created twice");
	cr_expect_null(strstr(error.message, "cannot create"), "%s", error.message);
	cr_expect_lt(tenon_vm_file_remove(vm, fd, &error), 0);
	close(fd);
	tenon_vm_destroy(vm);
}
