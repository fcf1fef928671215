// SPDX-License-Identifier: GPL-2.0
/*
 * A device without hardware that imports dma-bufs. Only the lab has it.
 *
 * The module attaches and maps a buffer like any driver. It reads and writes at
 * the resulting DMA addresses, as a device would, and never through the
 * exporter's struct pages. A wrong list of segments, addresses of another
 * domain's pages, and a bounce buffer that was not filled therefore result in a
 * wrong checksum.
 *
 * Accesses do not pass an IOMMU. The result is that of a device that sees memory
 * as Xen's page tables of the domain (PVH, HVM) or the machine (PV) map it.
 */
#include <linux/crc32.h>
#include <linux/dma-buf.h>
#include <linux/dma-map-ops.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <xen/page.h>
#include <xen/xen.h>

#include "lab-importer.h"

static struct miscdevice importer;

/* One buffer, while the device has it attached. */
struct import {
	struct list_head held;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attachment;
	struct sg_table *sgt;
	enum dma_data_direction direction;
};

struct client {
	struct mutex lock;
	struct list_head held;
};

/*
 * Translates a frame number that a device sees to one of this kernel. In a translated
 * domain both are equal. In a PV domain DMA addresses are machine addresses, and Xen's
 * table translates them back for this domain's own pages, including bounce buffers.
 * For a page of another domain the table returns the frame number of that domain. Such
 * a page is found by a search of this domain's own table of all its pages.
 */
struct frames {
	struct xarray foreign;	/* machine frame -> page frame number */
	bool known;
};

static int know_foreign(struct frames *frames)
{
	unsigned long pfn, mfn;
	int ret;

	for (pfn = 0; pfn < xen_p2m_size; pfn++) {
		mfn = xen_p2m_addr[pfn];
		if (mfn == INVALID_P2M_ENTRY || !(mfn & FOREIGN_FRAME_BIT))
			continue;
		ret = xa_err(xa_store(&frames->foreign, mfn & ~FOREIGN_FRAME_BIT, xa_mk_value(pfn), GFP_KERNEL));
		if (ret)
			return ret;
	}
	frames->known = true;
	return 0;
}

static void *frame_address(struct frames *frames, unsigned long frame, u32 *foreign)
{
	unsigned long pfn = bfn_to_local_pfn(frame);
	int ret;

	if (!pfn_valid(pfn) && xen_pv_domain()) {
		ret = frames->known ? 0 : know_foreign(frames);
		if (ret)
			return ERR_PTR(ret);
		pfn = xa_to_value(xa_load(&frames->foreign, frame) ?: xa_mk_value(LONG_MAX));
		++*foreign;
	}
	if (!pfn_valid(pfn)) {
		dev_err(importer.this_device, "frame %#lx is not in memory\n", frame);
		return ERR_PTR(-EFAULT);
	}
	return __va(PFN_PHYS(pfn));
}

static int walk(struct import *import, struct lab_import *args)
{
	struct frames frames = {};
	struct scatterlist *sg;
	u32 crc = ~0;
	int i, ret = 0;

	xa_init(&frames.foreign);
	args->shortest = U64_MAX;
	for_each_sgtable_dma_sg(import->sgt, sg, i) {
		dma_addr_t address = sg_dma_address(sg);
		u64 left = sg_dma_len(sg);

		args->segments++;
		args->bytes += left;
		args->shortest = min(args->shortest, left);
		args->longest = max(args->longest, left);
		while (left) {
			size_t offset = offset_in_page(address), length = min(left, PAGE_SIZE - offset);
			void *page = frame_address(&frames, PFN_DOWN(address), &args->foreign);

			ret = PTR_ERR_OR_ZERO(page);
			if (ret)
				goto out;
			if (args->flags & LAB_IMPORT_FILL)
				memset(page + offset, args->fill, length);
			crc = __crc32c_le(crc, page + offset, length);
			address += length;
			left -= length;
			cond_resched();
		}
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			goto out;
		}
	}
	args->crc32c = ~crc;
out:
	xa_destroy(&frames.foreign);
	return ret;
}

static void release(struct import *import)
{
	if (import->sgt)
		dma_buf_unmap_attachment_unlocked(import->attachment, import->sgt, import->direction);
	if (import->attachment)
		dma_buf_detach(import->dmabuf, import->attachment);
	dma_buf_put(import->dmabuf);
	kfree(import);
}

static struct import *acquire(int fd, enum dma_data_direction direction)
{
	struct import *import = kzalloc(sizeof(*import), GFP_KERNEL);
	void *result;

	if (!import)
		return ERR_PTR(-ENOMEM);
	import->direction = direction;
	result = import->dmabuf = dma_buf_get(fd);
	if (IS_ERR(result)) {
		kfree(import);
		return result;
	}
	result = dma_buf_attach(import->dmabuf, importer.this_device);
	if (IS_ERR(result))
		goto fail;
	import->attachment = result;
	result = dma_buf_map_attachment_unlocked(import->attachment, direction);
	if (IS_ERR(result))
		goto fail;
	import->sgt = result;
	return import;
fail:
	release(import);
	return result;
}

static long importer_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct client *client = file->private_data;
	struct import *import;
	struct lab_import args;
	int ret;

	if (command != LAB_IMPORT)
		return -ENOTTY;
	if (copy_from_user(&args, (void __user *)argument, sizeof(args)))
		return -EFAULT;
	if (args.flags & ~(LAB_IMPORT_HOLD | LAB_IMPORT_FILL) || args.direction > DMA_FROM_DEVICE)
		return -EINVAL;
	/* A PV guest without devices of its own has no machine addresses for a device. */
	if (xen_pv_domain() && !get_dma_ops(importer.this_device))
		return -ENODEV;

	args = (struct lab_import){
		.fd = args.fd, .flags = args.flags, .direction = args.direction, .fill = args.fill,
	};
	import = acquire(args.fd, args.direction);
	if (IS_ERR(import))
		return PTR_ERR(import);
	ret = walk(import, &args);
	if (!ret && copy_to_user((void __user *)argument, &args, sizeof(args)))
		ret = -EFAULT;
	if (ret || !(args.flags & LAB_IMPORT_HOLD)) {
		release(import);
		return ret;
	}
	mutex_lock(&client->lock);
	list_add(&import->held, &client->held);
	mutex_unlock(&client->lock);
	return 0;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct client *client = kzalloc(sizeof(*client), GFP_KERNEL);

	if (!client)
		return -ENOMEM;
	mutex_init(&client->lock);
	INIT_LIST_HEAD(&client->held);
	file->private_data = client;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct client *client = file->private_data;
	struct import *import, *next;

	list_for_each_entry_safe(import, next, &client->held, held)
		release(import);
	kfree(client);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab-importer",
	.fops = &importer_fops,
};

static int __init importer_init(void)
{
	int ret = misc_register(&importer);

	if (ret)
		return ret;
	ret = dma_coerce_mask_and_coherent(importer.this_device, DMA_BIT_MASK(64));
	if (ret)
		misc_deregister(&importer);
	return ret;
}
module_init(importer_init);

static void __exit importer_exit(void)
{
	misc_deregister(&importer);
}
module_exit(importer_exit);

MODULE_DESCRIPTION("Reads and writes dma-bufs as a device would");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
