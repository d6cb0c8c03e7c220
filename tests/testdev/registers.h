/* SPDX-License-Identifier: MIT */
/*
 * The test device as its driver sees it: identity, BARs, registers, descriptors. Plain numbers and no types, so that a
 * guest's firmware, Linux tools and assembly can include it. README.md explains what the registers do.
 *
 * Registers are 32 bits wide unless marked (64); those take two 4-byte accesses or one of 8. All are little-endian.
 */
#ifndef TESTDEV_REGISTERS_H
#define TESTDEV_REGISTERS_H

/* ---- Identity: not assigned by the PCI-SIG to anybody; the device exists only behind a socket ---- */

#define TD_VENDOR_ID 0x7e4e
#define TD_DEVICE_ID 0x0001
#define TD_REVISION  0x01
#define TD_CLASS     0xff0000 /* fits no class */

/* ---- BARs ---- */

#define TD_BAR_REGISTERS 0 /* 64 bits: registers, doorbells, MSI-X table; always trapped */
#define TD_BAR_MEMORY    2 /* 64 bits, prefetchable: memory; mapped but for a hole in the middle */
#define TD_BAR_PORTS     4 /* I/O ports: the first registers again, by index and data */
#define TD_BAR_PAGE      5 /* 32 bits: one page of memory, mapped whole */

#define TD_REGISTERS_BYTES 0x4000
#define TD_MEMORY_BYTES    0x100000
#define TD_PORTS_BYTES     0x20
#define TD_PAGE_BYTES      0x1000
#define TD_ROM_BYTES       0x1000

/* The trapped part of TD_BAR_MEMORY; it shows the same memory as the rest. */
#define TD_HOLE_FIRST 0x80000
#define TD_HOLE_BYTES 0x10000

/* In TD_BAR_PORTS */
#define TD_PORT_INDEX   0x00 /* offset of a register in TD_BAR_REGISTERS, below 0x1000 */
#define TD_PORT_DATA    0x04 /* that register, 4 bytes */
#define TD_PORT_SCRATCH 0x08 /* 32 bits that hold what is written, in parts too (1, 2, 4 bytes) */

/* ---- Registers, in TD_BAR_REGISTERS ---- */

#define TD_ID             0x000 /* TD_ID_VALUE */
#define TD_VERSION        0x004 /* TD_VERSION_VALUE */
#define TD_FEATURES       0x008 /* TD_FEATURE_* */
#define TD_STATE          0x00c /* the migration state, VFIO's numbers */
#define TD_SCRATCH        0x010 /* (64) holds what is written; 0 after a reset */
#define TD_SCRATCH2       0x018 /* (64) */
#define TD_RESETS_FLR     0x020 /* function level resets since the program started */
#define TD_RESETS_COMMAND 0x024 /* resets by the VMM, likewise */
#define TD_RESETS_POWER   0x028 /* returns from D3hot, likewise: none of them resets (No_Soft_Reset) */
#define TD_CONNECTIONS    0x02c /* clients so far */

#define TD_ID_VALUE      0x544e5444
#define TD_VERSION_VALUE 1

#define TD_FEATURE_MIGRATION 0x01
#define TD_FEATURE_PRE_COPY  0x02
#define TD_FEATURE_P2P       0x04
#define TD_FEATURE_LOGGING   0x08 /* logs its DMA writes */
#define TD_FEATURE_MESSAGES  0x10 /* the last DMA went over the socket, because the memory was not shared */
#define TD_FEATURE_TWIN      0x20 /* over a socket of its own */

/* Interrupts: TD_IRQ_* kind << 16 | vector */
#define TD_IRQ_RAISE     0x030 /* writing raises one */
#define TD_IRQ_LINE      0x034 /* bit 0: the level of INTx, until a reset */
#define TD_IRQ_RAISED    0x038 /* how many were raised */
#define TD_IRQ_DELIVERED 0x03c /* of them: how many signals went out */

#define TD_IRQ_NONE          0
#define TD_IRQ_INTX          1 /* asserts the line; TD_IRQ_LINE deasserts it */
#define TD_IRQ_MSI           2
#define TD_IRQ_MSIX          3
#define TD_IRQ_BEST          4 /* MSI-X if any vector is armed, else MSI, else INTx */
#define TD_IRQ_ERR           5 /* tells the VMM of an error that the device did not recover from */
#define TD_IRQ_REQ           6 /* asks the VMM to give the device back */
#define TD_IRQ(kind, vector) ((kind) << 16 | (vector))

#define TD_MSI_VECTORS  32
#define TD_MSIX_VECTORS 64

/* Copy engine */
#define TD_LIST_ADDRESS  0x040 /* (64) of the descriptors */
#define TD_LIST_COUNT    0x048 /* at most TD_LIST_MAX */
#define TD_CONTROL       0x04c /* writing TD_CONTROL_* */
#define TD_STATUS        0x050 /* TD_STATUS_* */
#define TD_COPIES        0x054 /* lists done since the reset, failed ones too */
#define TD_COPIED_BYTES  0x058 /* (64) by the last list */
#define TD_COPY_IRQ      0x060 /* raised at the end of a list */
#define TD_CHECKSUM      0x064 /* CRC-32 (IEEE 802.3, reflected, as zlib's) of all bytes that the last list moved */
#define TD_FAULT_ADDRESS 0x068 /* (64) what the device could not reach */
#define TD_LIST_DONE     0x070 /* descriptors done */

#define TD_LIST_MAX 256

#define TD_CONTROL_START 0x1
#define TD_CONTROL_ABORT 0x2

#define TD_STATUS_BUSY         0x1
#define TD_STATUS_DONE         0x2
#define TD_STATUS_ERROR        0x4
#define TD_STATUS_REASON(word) ((word) >> 8)
#define TD_REASON_LIST         1 /* a count or descriptor makes no sense */
#define TD_REASON_FAULT        2 /* an address is not mapped, or not for this kind of access */
#define TD_REASON_MASTER       3 /* bus mastering is off */
#define TD_REASON_ABORT        4
#define TD_REASON_TIMEOUT      5 /* the VMM did not answer a request for memory */

/* One descriptor in memory: offsets, and what the flags mean */
#define TD_DESC_SOURCE 0  /* (64) address, offset in TD_BAR_MEMORY, or pattern */
#define TD_DESC_TARGET 8  /* (64) address (a peer's BAR, too), or offset in TD_BAR_MEMORY */
#define TD_DESC_LENGTH 16 /* bytes, 1 to TD_DESC_LENGTH_MAX */
#define TD_DESC_FLAGS  20
#define TD_DESC_UNUSED 24 /* (64) */
#define TD_DESC_BYTES  32

#define TD_DESC_LENGTH_MAX 0x1000000

#define TD_DESC_FROM_MEMORY 0x01 /* the source is in TD_BAR_MEMORY */
#define TD_DESC_TO_MEMORY   0x02 /* the target is in TD_BAR_MEMORY */
#define TD_DESC_FILL        0x04 /* the source is a pattern of 8 bytes, repeated */
#define TD_DESC_CHECK       0x08 /* no target: only the checksum counts */
#define TD_DESC_IRQ         0x10 /* raise TD_COPY_IRQ after this one, too */

/* Load: the device keeps writing to pages of a window */
#define TD_LOAD_ADDRESS  0x080 /* (64) page aligned */
#define TD_LOAD_PAGES    0x088 /* at most TD_LOAD_PAGES_MAX */
#define TD_LOAD_RATE     0x08c /* pages a second; 0: stop */
#define TD_LOAD_STEP     0x090 /* writing N writes N pages at once */
#define TD_LOAD_WRITTEN  0x098 /* (64) pages so far */
#define TD_LOAD_PAGE     0x0a0 /* selects a page */
#define TD_LOAD_SEQUENCE 0x0a4 /* the number last written to that page; 0: none */
#define TD_LOAD_FAULTS   0x0a8 /* writes that failed */

#define TD_LOAD_PAGES_MAX 65536
/* What is at the start of a page that was written: four 64-bit words */
#define TD_LOAD_MAGIC 0x64616f6c2d6e6574 /* word 0 */
/* word 1: the page's address; word 2: the sequence number; word 3: the other three, by exclusive or */

/* Doorbells: counted; 0 starts the copy engine, N raises MSI-X vector N when bit N of TD_DOORBELL_IRQS is set */
#define TD_DOORBELL_IRQS  0x0b0
#define TD_DOORBELL_WOKEN 0x0b8 /* (64) CLOCK_MONOTONIC nanoseconds when the last doorbell reached the device */
#define TD_DOORBELLS      0x200 /* + 4 * N: how often it was rung */
#define TD_DOORBELL(n)    (0x1000 + 8 * (n)) /* writing anything rings; 4 bytes */
#define TD_DOORBELL_COUNT 16
#define TD_DOORBELL_FAST  8 /* the first so many can reach the device without the VMM */

/* The state that migration moves, besides registers and memory: a block of bytes that changes */
#define TD_BLOCK_BYTES    0x0c0 /* (64) */
#define TD_BLOCK_CHECKSUM 0x0c8 /* CRC-32 of it, made at each read */
#define TD_BLOCK_CHANGE   0x0cc /* writing N changes N of its chunks of 4 KiB */

/* Journal: what broke the contract */
#define TD_VIOLATIONS      0x0d0 /* how many; a reset does not clear it */
#define TD_VIOLATION_KINDS 0x0d4 /* bit K: TD_BAD_* K happened */
#define TD_JOURNAL_INDEX   0x0d8 /* selects one of the last TD_JOURNAL_MAX entries, 0 the newest */
#define TD_JOURNAL_KIND    0x0dc /* TD_BAD_*; 0: no such entry */
#define TD_JOURNAL_STATE   0x0e0 /* the migration state at that moment */
#define TD_JOURNAL_DETAIL  0x0e8 /* (64) an address or offset */

#define TD_JOURNAL_MAX 256

#define TD_BAD_STOPPED_ACCESS 1  /* a BAR access while the device is stopped or quiescent */
#define TD_BAD_STOPPED_MEMORY 2  /* mapped memory changed while the device was stopped */
#define TD_BAD_STOPPED_RESET  3  /* a function level reset by config space while stopped: only the VMM's command may */
#define TD_BAD_DECODE         4  /* a BAR access while its decoding is off in the command register */
#define TD_BAD_POWER          5  /* a BAR access in D3hot */
#define TD_BAD_MASTER         6  /* DMA was asked for with bus mastering off */
#define TD_BAD_ACCESS         7  /* a size, alignment or address that no register has */
#define TD_BAD_SRIOV          8  /* a write to the SR-IOV capability */
#define TD_BAD_DMA            9  /* DMA to memory that is not mapped, or not for that */
#define TD_BAD_UNMAP          10 /* memory was unmapped while the copy engine was at work on it */
#define TD_BAD_IRQ            11 /* two kinds of interrupts armed at a time */
#define TD_BAD_MESSAGE        12 /* a message that the protocol does not allow */
#define TD_BAD_STREAM         13 /* migration data that is no device's state */
#define TD_BAD_TRANSITION     14 /* a migration state that cannot follow */
#define TD_BAD_KINDS          15

/* MSI-X structures, in TD_BAR_REGISTERS */
#define TD_MSIX_TABLE 0x2000
#define TD_MSIX_PBA   0x3000

#endif
