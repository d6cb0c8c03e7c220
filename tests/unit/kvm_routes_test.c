// SPDX-License-Identifier: MIT
/* Message routes, lines and messages. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define ADDRESS 0x1fee00000ull

static struct tenon_vm *vm;
static struct tenon_error error;

static void create(void)
{
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	fakekvm_forget_calls();
}

static void destroy(void)
{
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_routes, .init = create, .fini = destroy);

Test(kvm_routes, routes_reach_kvm_together_at_commit)
{
	for (int i = 0; i < 40; i++) {
		int gsi = -1;
		cr_assert_eq(tenon_vm_route_set(vm, &gsi, ADDRESS, (uint32_t)i, &error), 0, "%s", error.message);
		cr_expect_eq(gsi, TENON_VM_IOAPIC_PINS + i);
	}
	cr_expect_eq(fakekvm_calls("KVM_SET_GSI_ROUTING"), 0);
	cr_assert_eq(tenon_vm_route_commit(vm, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_SET_GSI_ROUTING"), 1);
	cr_expect_eq(fakekvm_route_count(), TENON_VM_IOAPIC_PINS + 40, "the IOAPIC's pins stay");

	struct kvm_irq_routing_entry entry;
	cr_assert(fakekvm_route(30, &entry));
	cr_expect_eq(entry.type, KVM_IRQ_ROUTING_MSI);
	cr_expect_eq(entry.u.msi.address_lo, 0xfee00000);
	cr_expect_eq(entry.u.msi.address_hi, 1);
	cr_expect_eq(entry.u.msi.data, 6);
}

Test(kvm_routes, a_commit_without_a_change_costs_nothing)
{
	int gsi = -1;
	cr_assert_eq(tenon_vm_route_set(vm, &gsi, ADDRESS, 1, &error), 0);
	cr_assert_eq(tenon_vm_route_commit(vm, &error), 0);
	fakekvm_forget_calls();
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0);
	cr_expect_eq(tenon_vm_route_set(vm, &gsi, ADDRESS, 1, &error), 0, "the same again");
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0);
	cr_expect_eq(fakekvm_calls("KVM_SET_GSI_ROUTING"), 0);
	cr_expect_eq(tenon_vm_route_set(vm, &gsi, ADDRESS, 2, &error), 0);
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0);
	cr_expect_eq(fakekvm_calls("KVM_SET_GSI_ROUTING"), 1);
}

Test(kvm_routes, a_freed_route_leaves_the_table_and_its_gsi_is_used_again)
{
	int gsi[3] = {-1, -1, -1};
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(tenon_vm_route_set(vm, &gsi[i], ADDRESS, i, &error), 0);
	cr_assert_eq(tenon_vm_route_commit(vm, &error), 0);
	tenon_vm_route_free(vm, gsi[1]);
	tenon_vm_route_free(vm, gsi[1]);
	tenon_vm_route_free(vm, 3);
	tenon_vm_route_free(vm, -1);
	tenon_vm_route_free(vm, 1 << 30);
	struct kvm_irq_routing_entry entry;
	cr_expect(fakekvm_route((uint32_t)gsi[1], &entry), "until the commit");
	cr_assert_eq(tenon_vm_route_commit(vm, &error), 0);
	cr_expect_not(fakekvm_route((uint32_t)gsi[1], &entry));
	cr_expect_eq(fakekvm_route_count(), TENON_VM_IOAPIC_PINS + 2);
	int again = -1;
	cr_assert_eq(tenon_vm_route_set(vm, &again, ADDRESS, 9, &error), 0);
	cr_expect_eq(again, gsi[1]);
}

Test(kvm_routes, setting_what_is_no_route_is_refused)
{
	int pin = 4;
	int unknown = 24;
	cr_expect_eq(tenon_vm_route_set(vm, &pin, ADDRESS, 1, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "GSI 4"), "%s", error.message);
	cr_expect_eq(tenon_vm_route_set(vm, &unknown, ADDRESS, 1, &error), -EINVAL);
}

Test(kvm_routes, a_failed_commit_is_tried_again_by_the_next)
{
	int gsi = -1;
	cr_assert_eq(tenon_vm_route_set(vm, &gsi, ADDRESS, 1, &error), 0);
	fakekvm_fail_call(1, ENOMEM);
	cr_expect_eq(tenon_vm_route_commit(vm, &error), -ENOMEM);
	struct kvm_irq_routing_entry entry;
	cr_expect_not(fakekvm_route((uint32_t)gsi, &entry));
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0);
	cr_expect(fakekvm_route((uint32_t)gsi, &entry));
}

Test(kvm_routes, a_table_as_large_as_kvms_and_not_one_more)
{
	fakekvm_set_capability(KVM_CAP_IRQ_ROUTING, TENON_VM_IOAPIC_PINS + 20);
	struct tenon_vm *small = NULL;
	tenon_vm_destroy(vm);
	vm = NULL;
	cr_assert_eq(tenon_vm_create(NULL, &small, &error), 0, "%s", error.message);
	for (unsigned i = 0; i < 20; i++) {
		int gsi = -1;
		cr_assert_eq(tenon_vm_route_set(small, &gsi, ADDRESS, i, &error), 0, "%s", error.message);
	}
	int gsi = -1;
	cr_expect_eq(tenon_vm_route_set(small, &gsi, ADDRESS, 1, &error), -ENOSPC);
	cr_expect_eq(gsi, -1);
	cr_expect_eq(tenon_vm_route_commit(small, &error), 0, "%s", error.message);
	tenon_vm_destroy(small);
}

Test(kvm_routes, lines_are_the_ioapics_alone)
{
	cr_expect_eq(tenon_vm_irq_line(vm, 23, true, &error), 0);
	cr_expect(fakekvm_line(23));
	cr_expect_eq(tenon_vm_irq_line(vm, 24, true, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "GSI 24"), "%s", error.message);
}

Test(kvm_routes, holder_whose_line_kvm_did_not_set_is_not_counted)
{
	fakekvm_fail_always("KVM_IRQ_LINE", EIO);
	cr_expect_eq(tenon_vm_irq_line_hold(vm, 5, true, &error), -EIO);
	fakekvm_fail_always(NULL, 0);
	cr_expect_eq(tenon_vm_irq_line_hold(vm, 5, true, &error), 0, "%s", error.message);
	cr_expect(fakekvm_line(5), "the first holder raises it");

	fakekvm_fail_always("KVM_IRQ_LINE", EIO);
	cr_expect_eq(tenon_vm_irq_line_hold(vm, 5, false, &error), -EIO);
	fakekvm_fail_always(NULL, 0);
	cr_expect(fakekvm_line(5));
	cr_expect_eq(tenon_vm_irq_line_hold(vm, 5, false, &error), 0, "it may be released again: %s", error.message);
	cr_expect_not(fakekvm_line(5));
}

Test(kvm_routes, a_message_to_nobody_is_lost_and_no_failure)
{
	struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	struct tenon_vcpu *vcpu = NULL;
	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_msi_send(vm, 0xfee00000, 0x41, &error), 0);
	cr_expect_eq(fakekvm_message().data, 0x41);
	cr_expect_eq(tenon_vm_msi_send(vm, 0xfee05000, 0x41, &error), 0);
	tenon_vcpu_destroy(vcpu);
}

Test(kvm_routes, a_reset_masks_the_ioapic_and_lowers_its_lines)
{
	uint64_t power_on = fakekvm_ioapic_register(5);
	fakekvm_set_ioapic_register(0x8040);
	cr_assert_eq(tenon_vm_irq_line(vm, 5, true, &error), 0);
	cr_assert_eq(tenon_vm_irqchip_reset(vm, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_ioapic_register(5), power_on);
	cr_expect_not(fakekvm_line(5));
	cr_expect_eq(fakekvm_route_count(), TENON_VM_IOAPIC_PINS);
}
