// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device-mapper and null_blk devices of a case, made by ioctl and configfs and
 * taken down again. It knows nothing of what is stored on them.
 */
#define _GNU_SOURCE
#include "dm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define CONTROL "/dev/mapper/control"
#define NULLB "/sys/kernel/config/nullb/twinboot"
#define UNDO_ROUNDS 200		/* of 10 ms */

struct dm_request {
	struct dm_ioctl head;
	struct dm_target_spec target;
	char params[128];
};

static int control = -1, opened = -1;
static char made[32], suspended[32];
static bool null_made;

static int dm_call(unsigned long command, const char *name, uint32_t flags,
		   struct dm_request *rq)
{
	struct dm_ioctl *head = &rq->head;

	head->version[0] = 4;		/* all since 2003 */
	head->version[1] = 0;
	head->version[2] = 0;
	head->data_size = sizeof(*rq);
	head->data_start = offsetof(struct dm_request, target);
	head->flags = flags;
	head->dev = 0;			/* the name alone says which */
	strncpy(head->name, name, sizeof(made) - 1);
	return ioctl(control, command, head);
}

static int dm_plain(unsigned long command, const char *name, uint32_t flags)
{
	struct dm_request rq = { 0 };

	return dm_call(command, name, flags, &rq);
}

/* ---- undoing: async-signal-safe ------------------------------------------ */

/* What was parked holds the device until its I/O has ended. */
static void remove_made(void)
{
	const struct timespec tick = { .tv_nsec = 10000000 };

	for (int i = 0; i < UNDO_ROUNDS; i++) {
		if (!dm_plain(DM_DEV_REMOVE, made, 0) || errno != EBUSY)
			break;
		nanosleep(&tick, NULL);
	}
	made[0] = 0;
}

static void undo(void)
{
	if (suspended[0])
		dm_plain(DM_DEV_SUSPEND, suspended, 0);
	suspended[0] = 0;
	if (opened >= 0)
		close(opened);
	opened = -1;
	if (made[0])
		remove_made();
	if (null_made)
		rmdir(NULLB);
	null_made = false;
}

/* ---- null_blk ------------------------------------------------------------ */

static void null_write(const char *attribute, unsigned long value)
{
	char path[128], text[32];
	int fd, len;

	snprintf(path, sizeof(path), NULLB "/%s", attribute);
	len = snprintf(text, sizeof(text), "%lu", value);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		broken("%s does not take %s: %s", path, text, strerror(errno));
	close(fd);
}

const char *null_disk(size_t mib)
{
	static char node[32];
	FILE *file;
	int index;

	if (mkdir(NULLB, 0755)) {
		if (errno == ENOENT)
			skip_all("this kernel has no null_blk in configfs");
		broken("%s: %s", NULLB, strerror(errno));
	}
	null_made = true;
	at_restore(undo);
	null_write("size", mib);
	null_write("blocksize", 512);
	null_write("memory_backed", 1);
	null_write("power", 1);
	file = fopen(NULLB "/index", "re");
	if (!file || fscanf(file, "%d", &index) != 1)
		broken("null_blk does not say which disk it made");
	fclose(file);
	snprintf(node, sizeof(node), "/dev/nullb%d", index);
	/* from 6.1 on the disk is named after its folder (drivers/block/null_blk/main.c) */
	if (access(node, F_OK))
		snprintf(node, sizeof(node), "/dev/%s", strrchr(NULLB, '/') + 1);
	return node;
}

/* ---- device-mapper ------------------------------------------------------- */

static void open_control(void)
{
	if (control >= 0)
		return;
	control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		skip_all("no device-mapper: %s: %s", CONTROL, strerror(errno));
	at_restore(undo);
}

static uint64_t sectors_of(const char *lower)
{
	uint64_t bytes = 0;
	int fd = open(lower, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes))
		broken("%s has no size: %s", lower, strerror(errno));
	close(fd);
	return bytes / 512;
}

const char *dm_linear(const char *name, const char *lower)
{
	struct dm_request rq = { 0 };
	static char node[32];

	open_control();
	if (made[0])
		broken("a second dm device in one case");
	if (dm_plain(DM_DEV_CREATE, name, 0))
		broken("dm device %s cannot be made: %s", name, strerror(errno));
	strncpy(made, name, sizeof(made) - 1);
	rq.head.target_count = 1;
	rq.target.length = sectors_of(lower);
	strcpy(rq.target.target_type, "linear");
	snprintf(rq.params, sizeof(rq.params), "%s 0", lower);
	if (dm_call(DM_TABLE_LOAD, name, 0, &rq) ||
	    dm_call(DM_DEV_SUSPEND, name, 0, &rq))
		broken("dm device %s takes no table: %s", name, strerror(errno));
	snprintf(node, sizeof(node), "/dev/dm-%u", minor(rq.head.dev));
	return node;
}

int dm_open(const char *node, int flags)
{
	opened = open(node, flags | O_CLOEXEC);
	if (opened < 0)
		broken("%s cannot be opened: %s", node, strerror(errno));
	return opened;
}

void dm_suspend(const char *name)
{
	const uint32_t how = DM_SUSPEND_FLAG | DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG;

	open_control();
	/* noted first: a signal may come in between, and one resume too many is free */
	strncpy(suspended, name, sizeof(suspended) - 1);
	if (dm_plain(DM_DEV_SUSPEND, name, how))
		broken("dm device %s cannot be suspended: %s", name, strerror(errno));
}

void dm_resume(const char *name)
{
	if (dm_plain(DM_DEV_SUSPEND, name, 0))
		broken("dm device %s cannot be resumed: %s", name, strerror(errno));
	suspended[0] = 0;
}
