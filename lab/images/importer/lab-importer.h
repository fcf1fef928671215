/* SPDX-License-Identifier: GPL-2.0 */
/* /dev/lab-importer: reads and writes a dma-buf as a device would. */
#include <linux/ioctl.h>
#include <linux/types.h>

/* Keep the buffer attached and mapped until the descriptor of /dev/lab-importer is closed. */
#define LAB_IMPORT_HOLD (1 << 0)
/* Write `fill` into every byte, before reading. */
#define LAB_IMPORT_FILL (1 << 1)

struct lab_import {
	__s32 fd;		/* in: the dma-buf */
	__u32 flags;		/* in: LAB_IMPORT_* */
	__u32 direction;	/* in: enum dma_data_direction; 0 both, 1 to the device, 2 from it */
	__u32 fill;		/* in: a byte */
	__u64 bytes;		/* out: the sum of all segments */
	__u64 shortest, longest;	/* out: segments, in bytes */
	__u32 segments;		/* out */
	__u32 crc32c;		/* out: of all that the device finds */
	__u32 foreign;		/* out: pages of another domain, where the kernel knows (PV) */
	__u32 reserved;
};

#define LAB_IMPORT _IOWR('L', 0x40, struct lab_import)
