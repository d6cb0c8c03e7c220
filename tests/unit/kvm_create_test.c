// SPDX-License-Identifier: MIT
/* Creating a VM: what KVM must be able to do, and what is set up before the first vCPU. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

TestSuite(kvm_create, .init = fakekvm_reset, .fini = fakekvm_assert_nothing_left);

Test(kvm_create, every_missing_capability_is_named_in_one_refusal)
{
	fakekvm_set_capability(KVM_CAP_IRQFD, 0);
	fakekvm_set_capability(KVM_CAP_IMMEDIATE_EXIT, 0);
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	cr_expect_eq(tenon_vm_create(NULL, &vm, &error), -ENOTSUP);
	cr_expect_eq(error.code, -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "lacks KVM_CAP_IRQFD, KVM_CAP_IMMEDIATE_EXIT;"), "%s", error.message);
	cr_expect_null(vm);
}

Test(kvm_create, all_capabilities_missing_still_fit_the_message)
{
	for (int i = 0; i < 256; i++)
		fakekvm_set_capability(i, 0);
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	cr_expect_eq(tenon_vm_create(NULL, &vm, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "use a newer kernel"), "%s", error.message);
}

Test(kvm_create, another_api_version_is_refused)
{
	fakekvm_set_api_version(11);
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	cr_expect_eq(tenon_vm_create(NULL, &vm, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "API 11"), "%s", error.message);
}

Test(kvm_create, refusals_to_open_say_what_to_do)
{
	static const struct {
		int error;
		const char *advice;
	} cases[] = {{ENOENT, "kvm_intel"}, {EACCES, "read-write access"}, {EIO, "check"}};
	for (unsigned i = 0; i < 3; i++) {
		fakekvm_fail_always("open", cases[i].error);
		struct tenon_vm *vm = NULL;
		struct tenon_error error;
		cr_expect_eq(tenon_vm_create(NULL, &vm, &error), -cases[i].error);
		cr_expect_not_null(strstr(error.message, "/dev/kvm"), "%s", error.message);
		cr_expect_not_null(strstr(error.message, cases[i].advice), "%s", error.message);
	}
}

Test(kvm_create, an_interrupted_creation_is_repeated)
{
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	fakekvm_fail_call(3, EINTR); /* open, API version, create */
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_expect_str_eq(fakekvm_failed_call(), "KVM_CREATE_VM");
	tenon_vm_destroy(vm);
}

Test(kvm_create, the_ioapics_pins_are_routed_and_the_pic_is_not)
{
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_route_count(), TENON_VM_IOAPIC_PINS);
	for (uint32_t gsi = 0; gsi < TENON_VM_IOAPIC_PINS; gsi++) {
		struct kvm_irq_routing_entry entry;
		cr_assert(fakekvm_route(gsi, &entry));
		cr_expect_eq(entry.type, KVM_IRQ_ROUTING_IRQCHIP);
		cr_expect_eq(entry.u.irqchip.irqchip, KVM_IRQCHIP_IOAPIC);
		cr_expect_eq(entry.u.irqchip.pin, gsi);
	}
	tenon_vm_destroy(vm);
}

Test(kvm_create, intels_pages_are_placed_where_kvm_asks_for_them_and_before_vcpus)
{
	struct tenon_vm *vm = NULL;
	struct tenon_vcpu *vcpu = NULL;
	struct tenon_error error;
	struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), 0, "%s", error.message);
	cr_expect_lt(fakekvm_call_position("KVM_SET_TSS_ADDR"), fakekvm_call_position("KVM_CREATE_VCPU"));
	cr_expect_lt(fakekvm_call_position("KVM_SET_IDENTITY_MAP_ADDR"), fakekvm_call_position("KVM_CREATE_VCPU"));
	tenon_vcpu_destroy(vcpu);
	tenon_vm_destroy(vm);

	fakekvm_reset();
	fakekvm_set_capability(KVM_CAP_SET_TSS_ADDR, 0);
	fakekvm_set_capability(KVM_CAP_SET_IDENTITY_MAP_ADDR, 0);
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_SET_TSS_ADDR") + fakekvm_calls("KVM_SET_IDENTITY_MAP_ADDR"), 0);
	tenon_vm_destroy(vm);
}

Test(kvm_create, the_dirty_ring_is_asked_for_by_name_and_number)
{
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = true, .dirty_ring_entries = 1000};
	cr_expect_eq(tenon_vm_create(&options, &vm, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "power of two"), "%s", error.message);
	options.dirty_ring_entries = 1u << 20;
	cr_expect_eq(tenon_vm_create(&options, &vm, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "KVM allows 65536"), "%s", error.message);
	options.dirty_ring_entries = 0;
	cr_assert_eq(tenon_vm_create(&options, &vm, &error), 0, "%s", error.message);
	tenon_vm_destroy(vm);
	fakekvm_set_capability(KVM_CAP_DIRTY_LOG_RING, 0);
	cr_expect_eq(tenon_vm_create(&options, &vm, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_DIRTY_LOG_RING"), "%s", error.message);
}

Test(kvm_create, as_many_vcpus_as_kvm_and_8_bit_ids_allow)
{
	struct tenon_vm *vm = NULL;
	struct tenon_vcpu *vcpu = NULL;
	struct tenon_error error;
	struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_max_vcpus(vm), 255);
	tenon_vm_destroy(vm);
	fakekvm_set_capability(KVM_CAP_MAX_VCPUS, 2);
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_max_vcpus(vm), 2);
	cr_expect_eq(tenon_vcpu_create(vm, 2, &handlers, NULL, &vcpu, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "vCPU 2"), "%s", error.message);
	tenon_vm_destroy(vm);
}

Test(kvm_create, options_of_another_version_follow_the_kernels_rules)
{
	struct tenon_vm *vm = NULL;
	struct tenon_error error;
	struct {
		struct tenon_vm_options known;
		uint64_t newer;
	} options = {.known = {.size = sizeof(options)}};
	cr_assert_eq(tenon_vm_create(&options.known, &vm, &error), 0, "%s", error.message);
	tenon_vm_destroy(vm);
	options.newer = 1;
	cr_expect_eq(tenon_vm_create(&options.known, &vm, &error), -E2BIG);
	options.known.size = 0;
	cr_expect_eq(tenon_vm_create(&options.known, &vm, &error), -EINVAL);
	options.known = (struct tenon_vm_options){.size = sizeof(size_t), .path = "/not/there"};
	cr_assert_eq(tenon_vm_create(&options.known, &vm, &error), 0, "a field beyond size was read: %s",
		     error.message);
	tenon_vm_destroy(vm);
}

Test(kvm_create, nothing_is_destroyed_harmlessly)
{
	tenon_vm_destroy(NULL);
	tenon_vcpu_destroy(NULL);
	tenon_vcpu_state_free(NULL);
}

Test(kvm_create, a_taken_kick_signal_and_a_vcpu_that_was_there_before_are_told)
{
	struct tenon_vm *vm = NULL;
	struct tenon_vcpu *vcpu = NULL;
	struct tenon_error error;
	struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	fakekvm_fail_always("sigaction", EBUSY);
	cr_expect_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), -EBUSY);
	cr_expect_not_null(strstr(error.message, "SIGRTMIN+1"), "%s", error.message);
	fakekvm_fail_always(NULL, 0);

	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), 0, "%s", error.message);
	tenon_vcpu_destroy(vcpu);
	cr_expect_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), -EEXIST);
	cr_expect_not_null(strstr(error.message, "even after it was destroyed"), "%s", error.message);
	tenon_vm_destroy(vm);
}
