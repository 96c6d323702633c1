/* SPDX-License-Identifier: MIT */
#include "init/blame.h"

#include <fcntl.h>
#include <string.h>

#include "init/stages.h"
#include "init/system.h"
#include "init/timeline.h"
#include "kernel/util.h"
#include "services/set.h"

/* Firmware performance data table: nanoseconds from the reset to the moment at which the loader
 * left the firmware (Documentation/ABI/testing/sysfs-firmware-acpi). */
#define FIRMWARE_END "/sys/firmware/acpi/fpdt/boot/exitbootservice_end_ns"

/* A clock may not have moved between two events, and a life before this version knew less. */
static int64_t between(uint64_t from, uint64_t to)
{
	return to > from ? (int64_t)(to - from) : 0;
}

/* Of what the boot asked for: who was started by hand since is no part of it. */
static bool belongs_to_boot(const struct service *s)
{
	return s->first.asked_usec && (!sys.booted_usec || s->first.asked_usec <= sys.booted_usec);
}

static uint64_t read_firmware(void)
{
	char text[32];
	uint64_t nsec;

	if (!sys.real || file_read(AT_FDCWD, FIRMWARE_END, text, sizeof(text)) <= 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, &nsec) ? nsec / 1000 : 0;
}

static void send_boot(struct client *c)
{
	struct record_writer w = {0};
	uint64_t firmware = read_firmware(), last = sys.booted_usec;
	unsigned waiting = 0;

	for (const struct service *s = set_first(); s; s = s->next) {
		if (!belongs_to_boot(s))
			continue;
		if (!s->first.done_usec)
			waiting++;
		else if (s->first.done_usec > last)
			last = s->first.done_usec;
	}
	record_begin(&w, "boot", "");
	/* The clock of a machine begins with its kernel; that of a namespace is its machine's. */
	if (sys.real)
		record_int(&w, "kernel_usec", (int64_t)sys.boot_usec);
	if (sys.real && sys.initramfs_usec)
		record_int(&w, "initramfs_usec", between(sys.initramfs_usec, sys.boot_usec));
	if (firmware)
		record_int(&w, "firmware_usec", (int64_t)firmware);
	if (sys.booted_usec) {
		record_int(&w, "stages_usec", between(sys.boot_usec, sys.booted_usec));
		record_int(&w, "total_usec", between(sys.boot_usec, last));
	}
	record_int(&w, "waiting", waiting);
	record_end(&w);
	control_send_record(c, &w);
}

static void send_stage(struct client *c, const struct timeline_entry *entry)
{
	struct record_writer w = {0};
	size_t stage = stage_find(entry->name);

	record_begin(&w, "stage", entry->name);
	/* One of the image that was booted: this one's init may not have it. */
	record_text(&w, "what", stage < N_STAGES ? STAGES[stage].what : NULL);
	record_int(&w, "begin_usec", between(sys.boot_usec, entry->begin_usec));
	if (entry->end_usec)
		record_int(&w, "usec", between(entry->begin_usec, entry->end_usec));
	record_bool(&w, "failed", entry->failed);
	record_end(&w);
	control_send_record(c, &w);
}

static void send_start(struct client *c, const struct service *s)
{
	struct record_writer w = {0};
	const struct first_start *first = &s->first;
	/* What it required had failed: it never had its turn. */
	uint64_t begun = first->begun_usec ? first->begun_usec : first->done_usec;

	record_begin(&w, "start", s->unit->name);
	if (begun) {
		record_int(&w, "begin_usec", between(sys.boot_usec, begun));
		record_int(&w, "waited_usec", between(first->asked_usec, begun));
	}
	if (first->done_usec)
		record_int(&w, "usec", between(begun, first->done_usec));
	record_bool(&w, "failed", first->failed);
	record_end(&w);
	control_send_record(c, &w);
}

void blame_send(struct client *c)
{
	const struct timeline_entry *entry;

	send_boot(c);
	for (unsigned i = 0; (entry = timeline_get(i)); i++)
		send_stage(c, entry);
	for (const struct service *s = set_first(); s; s = s->next)
		if (belongs_to_boot(s))
			send_start(c, s);
}
