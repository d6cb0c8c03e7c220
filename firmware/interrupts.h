/* SPDX-License-Identifier: MIT */
/* Interrupts and exceptions of the one CPU that the firmware runs on. */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#include <stdbool.h>
#include <stdint.h>

/* Vectors for whoever tests: messages from a multiple of 64, so that MSI can have as many as it wants; the line's own. */
#define VECTOR_MESSAGES 0x40
#define VECTOR_COUNT    64
#define VECTOR_LINE     0x90

/* What a message is to be written to, for this CPU. */
#define MESSAGE_ADDRESS      0xfee00000u
#define MESSAGE_DATA(vector) ((uint32_t)(vector))

void interrupts_init(void);
/** Off, and the local APIC as a reset leaves it: for a kernel. */
void interrupts_finish(void);

/** How often the vector came, and when it last did (time stamp counter). */
uint32_t interrupts_count(unsigned vector);
uint64_t interrupts_time(unsigned vector);

/** Interrupts of all vectors from VECTOR_MESSAGES on, together. */
uint32_t interrupts_total(void);

/** Waits until `vector` has come `count` times in all. @return false: not within `timeout_us` */
bool interrupts_wait(unsigned vector, uint32_t count, uint64_t timeout_us);

/** Gives the line of a GSI to VECTOR_LINE. @param quiet is called before the end of interrupt, to make the device let the line go */
void interrupts_route_line(unsigned gsi, void (*quiet)(void));
void interrupts_unroute_line(unsigned gsi);

/** Calls the function; an exception in it ends the call. @return false: there was one */
bool guarded_call(void (*function)(void *argument), void *argument);

/** Exceptions that guarded calls survived. */
extern uint64_t interrupts_survived;

#endif
