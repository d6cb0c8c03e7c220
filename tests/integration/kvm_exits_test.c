// SPDX-License-Identifier: MIT
/* What a guest does that user space must answer: ports, memory that is not there, and ends of all kinds. */
#include "kvm_guest.h"

GUEST_CODE_32(ports, "movl $0x11223344, %eax\n"
		     "movw $0x3f8, %dx\n"
		     "outb %al, %dx\n"
		     "outw %ax, %dx\n"
		     "outl %eax, %dx\n"
		     "movw $0x3f9, %dx\n"
		     "inb %dx, %al\n"
		     "inw %dx, %ax\n"
		     "inl %dx, %eax\n"
		     "outl %eax, $0x80\n"
		     "1: hlt\n"
		     "jmp 1b\n");

Test(kvm_exits, port_accesses_of_each_size_arrive_in_order)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_ports, guest_ports_end);
	guest.port_value = 0x5a;
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 4, 10));

	cr_expect_eq(guest.writes[0].size_bytes, 1);
	cr_expect_eq(guest.writes[0].value, 0x44);
	cr_expect_eq(guest.writes[1].size_bytes, 2);
	cr_expect_eq(guest.writes[1].value, 0x3344);
	cr_expect_eq(guest.writes[2].size_bytes, 4);
	cr_expect_eq(guest.writes[2].value, 0x11223344);
	cr_expect_eq(guest.writes[2].port, 0x3f8);
	cr_expect_eq(guest.writes[3].port, 0x80);
	cr_expect_eq(guest.writes[3].value, 0x5c, "the third read's value, not %#x", guest.writes[3].value);

	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(guest.vcpus[0], &stats);
	cr_expect_eq(stats.port_reads, 3);
	cr_expect_eq(stats.port_writes, 4);
	guest_destroy(&guest);
}

GUEST_CODE_32(strings, "cld\n"
		       "movl $0x3000, %esi\n"
		       "movl $5, %ecx\n"
		       "movw $0x60, %dx\n"
		       "rep outsb\n"
		       "movl $0x3100, %edi\n"
		       "movl $6, %ecx\n"
		       "rep insw\n"
		       "outb %al, $0x80\n"
		       "1: hlt\n"
		       "jmp 1b\n");

Test(kvm_exits, string_instructions_call_once_per_element)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_strings, guest_strings_end);
	memcpy(guest.ram + 0x3000, "tenon", 5);
	guest.port_value = 0x100;
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 6, 10));

	for (unsigned i = 0; i < 5; i++) {
		cr_expect_eq(guest.writes[i].value, (uint8_t) "tenon"[i]);
		cr_expect_eq(guest.writes[i].size_bytes, 1);
	}
	for (uint16_t i = 0; i < 6; i++) {
		uint16_t value;
		memcpy(&value, guest.ram + 0x3100 + 2 * i, sizeof(value));
		cr_expect_eq(value, 0x100 + i, "element %u is %#x", i, value);
	}
	guest_destroy(&guest);
}

GUEST_CODE_32(memory, "movl $0xd0000000, %ebx\n"
		      "movb $0x77, (%ebx)\n"
		      "movw $0x8899, 2(%ebx)\n"
		      "movl $0xaabbccdd, 4(%ebx)\n"
		      "movl 4(%ebx), %eax\n"
		      "outl %eax, $0x80\n"
		      "movl 0x1000(%ebx), %eax\n"
		      "outl %eax, $0x80\n"
		      "1: hlt\n"
		      "jmp 1b\n");

Test(kvm_exits, memory_that_is_not_there_is_the_handlers)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_memory, guest_memory_end);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 2, 10));

	static const uint8_t expected[8] = {0x77, 0, 0x99, 0x88, 0xdd, 0xcc, 0xbb, 0xaa};
	cr_expect_arr_eq(guest.device, expected, sizeof(expected));
	cr_expect_eq(guest.writes[0].value, 0xaabbccdd);
	cr_expect_eq(guest.writes[1].value, 0xffffffff, "an unclaimed read gives all ones");
	guest_destroy(&guest);
}

/* Three bytes lie before the page boundary, one behind. */
GUEST_CODE_32(crossing, "movl $0xd0000000, %ebx\n"
			"movl $0x04030201, 0xffd(%ebx)\n"
			"outb %al, $0x80\n"
			"1: hlt\n"
			"jmp 1b\n");

Test(kvm_exits, an_access_across_pages_comes_in_pieces_of_ordinary_sizes)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_crossing, guest_crossing_end);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));

	unsigned bytes = 0;
	for (unsigned i = 0; i < guest.device_accesses; i++) {
		unsigned size_bytes = guest.device_sizes[i];
		cr_expect(size_bytes == 1 || size_bytes == 2 || size_bytes == 4, "%u bytes", size_bytes);
		bytes += size_bytes;
	}
	cr_expect_eq(bytes, 4);
	guest_destroy(&guest);
}

/* No descriptor table entry is present, so the fault faults, and that faults. */
GUEST_CODE_32(triple_fault, "ud2\n");

Test(kvm_exits, a_triple_fault_stops_the_vcpu_until_its_state_is_restored)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_triple_fault, guest_triple_fault_end);
	struct tenon_error error;
	struct tenon_vcpu_state *power_on;
	cr_assert_eq(tenon_vcpu_state_capture(guest.vcpus[0], &power_on, &error), 0, "%s", error.message);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.stop_count, 1, 10));
	cr_expect_eq(guest.stop_reason, TENON_VCPU_STOP_SHUTDOWN);
	cr_expect_str_empty(guest.stop_message);

	tenon_vcpu_pause(guest.vcpus[0], true);
	tenon_vcpu_resume(guest.vcpus[0]);
	usleep(20000);
	cr_expect_eq(guest_read_count(&guest, &guest.stop_count), 1, "ran on after its triple fault");

	tenon_vcpu_pause(guest.vcpus[0], true);
	memcpy(guest.ram + GUEST_CODE, guest_ports, (size_t)(guest_ports_end - guest_ports));
	cr_assert_eq(tenon_vcpu_state_restore(guest.vcpus[0], power_on, TENON_VCPU_RESTORE_RESET, &error), 0, "%s",
		     error.message);
	tenon_vcpu_resume(guest.vcpus[0]);
	cr_assert(guest_wait(&guest, &guest.write_count, 4, 10));
	cr_expect_eq(guest_read_count(&guest, &guest.stop_count), 1);
	tenon_vcpu_state_free(power_on);
	guest_destroy(&guest);
}

/* Fetches an instruction from where nothing is. */
GUEST_CODE_32(lost, "movl $0xd0000000, %eax\n"
		    "jmp *%eax\n");

Test(kvm_exits, what_kvm_cannot_run_is_told_in_one_line_with_registers)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_lost, guest_lost_end);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.stop_count, 1, 10));
	if (guest.stop_reason == TENON_VCPU_STOP_SHUTDOWN) {
		guest_destroy(&guest);
		cr_skip_test("this KVM answers a fetch from nowhere with a fault");
	}
	cr_expect_eq(guest.stop_reason, TENON_VCPU_STOP_FAILED);
	cr_expect(strstr(guest.stop_message, "vCPU 0: ") == guest.stop_message, "%s", guest.stop_message);
	cr_expect_not_null(strstr(guest.stop_message, "rip 0xd0000000"), "%s", guest.stop_message);
	cr_expect_null(strchr(guest.stop_message, '\n'));
	guest_destroy(&guest);
}
