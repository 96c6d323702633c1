/* SPDX-License-Identifier: MIT */
#include "init/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/protocol.h"
#include "conf/record.h"
#include "init/boot.h"
#include "init/control.h"
#include "init/late_mounts.h"
#include "init/schedule.h"
#include "init/shutdown.h"
#include "init/system.h"
#include "init/timeline.h"
#include "init/watchdog.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/util.h"
#include "services/inbox.h"
#include "services/notify.h"
#include "services/set.h"
#include "upgrade/upgrade.h"

/* A machine with 4,096 services stays below 8 MiB; what is larger is no state of ours. */
#define STATE_MAX_BYTES (64 * 1024 * 1024)

static void each_fd(int (*visit)(int fd))
{
	if (notify_fd() >= 0)
		(void)visit(notify_fd());
	control_each_fd(visit);
	boot_each_fd(visit);
	watchdog_each_fd(visit);
	upgrade_each_fd(visit);
	set_each_fd(visit);
}

static struct record_writer *identities;

static int save_identity(int fd)
{
	const char *word = identity_of(fd);
	char text[64];

	if (word) {
		(void)snprintf(text, sizeof(text), "%d %s", fd, word);
		record_text(identities, "fd", text);
	}
	return 0;
}

/* Before all that name descriptors: so it is read first. */
static void save_identities(struct record_writer *w)
{
	record_begin(w, "descriptors", "");
	identities = w;
	each_fd(save_identity);
	record_end(w);
}

void state_write(struct record_writer *w)
{
	record_begin(w, "molt-state", STATE_VERSION);
	record_text(w, "written_by", MOLT_VERSION);
	record_end(w);
	save_identities(w);
	system_save(w);
	boot_save(w);
	timeline_save(w);
	late_mounts_save(w);
	shutdown_save(w);
	schedule_save(w);
	watchdog_save(w);
	record_begin(w, "notify", "");
	record_int(w, "fd", notify_fd());
	record_int(w, "heard", (int64_t)notify_count());
	record_end(w);
	inbox_save(w);
	control_save(w);
	upgrade_save(w);
	set_save(w);
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, text, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}

int state_snapshot(void)
{
	struct record_writer w = {0};
	CLEANUP_FD int fd = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	state_write(&w);
	int r = w.error ? w.error : write_all(fd, w.text, w.length);
	record_writer_done(&w);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	return fd_steal(&fd);
}

static bool keeping;

static int mark(int fd)
{
	return fd_set_cloexec(fd, !keeping);
}

void state_keep_descriptors(bool keep)
{
	keeping = keep;
	each_fd(mark);
}

static int read_text(int fd, char **ret_text, size_t *ret_length, struct error *e)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0)
		return error_set(e, errno, "cannot read the state (descriptor %d)", fd);
	if (st.st_size <= 0 || st.st_size > STATE_MAX_BYTES)
		return error_say(e, EBADMSG, "the state is %lld bytes long", (long long)st.st_size);
	text = malloc((size_t)st.st_size);
	if (!text)
		return error_set(e, ENOMEM, "cannot read the state");
	if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		return error_set(e, EIO, "cannot read the state");
	}
	*ret_text = text;
	*ret_length = (size_t)st.st_size;
	return 0;
}

typedef int (*record_handler)(const struct record *r, struct error *e);

static int each_record(int fd, record_handler handle, struct error *e)
{
	struct record_reader *reader = NULL;
	struct record r;
	char *text = NULL;
	size_t length = 0;
	int result = read_text(fd, &text, &length, e);

	if (result < 0)
		return result;
	result = record_reader_new(&reader, text, length);
	free(text);
	if (result < 0)
		return error_set(e, result, "cannot read the state");
	while ((result = record_next(reader, &r)) == 1) {
		result = handle(&r, e);
		if (result < 0)
			break;
	}
	if (result == -EBADMSG && !e->code)
		(void)error_say(e, EBADMSG, "the state makes no sense in line %u", r.line);
	record_reader_free(reader);
	return result;
}

static bool doubting;

static void load_identities(const struct record *r)
{
	const char *text;
	int fd, at;

	for (size_t i = 0; doubting && (text = record_get_nth(r, "fd", i)); i++)
		if (sscanf(text, "%d %n", &fd, &at) == 1 && !identity_check(fd, text + at))
			log_debug("descriptor %d is not what it was: lost", fd);
}

static int load_notify(const struct record *r, struct error *e)
{
	int fd = identity_take((int)record_get_int(r, "fd", -1));

	notify_set_count((uint64_t)record_get_int(r, "heard", 0));

	return fd >= 0 ? notify_adopt(fd, e) : notify_open(e);
}

static int load_record(const struct record *r, struct error *e)
{
	int result = 0;

	if (strcmp(r->kind, "molt-state") == 0) {
		if (strcmp(r->id, STATE_VERSION) != 0)
			log_warning(
				"the state was written in version %s, this is version %s: what it does not know is skipped",
				r->id, STATE_VERSION);
	} else if (strcmp(r->kind, "system") == 0) {
		system_load(r);
	} else if (strcmp(r->kind, "boot") == 0) {
		boot_load(r);
	} else if (strcmp(r->kind, "stage") == 0) {
		timeline_load(r);
	} else if (strcmp(r->kind, "late") == 0) {
		late_mounts_load(r);
	} else if (strcmp(r->kind, "shutdown") == 0) {
		shutdown_load(r);
	} else if (strcmp(r->kind, "schedule") == 0) {
		schedule_load(r);
	} else if (strcmp(r->kind, "watchdog") == 0) {
		watchdog_load(r);
	} else if (strcmp(r->kind, "notify") == 0) {
		result = load_notify(r, e);
	} else if (strcmp(r->kind, "message") == 0) {
		inbox_load(r, 0);
	} else if (strcmp(r->kind, "descriptors") == 0) {
		load_identities(r);
	} else if (strcmp(r->kind, "control") == 0) {
		result = control_load(r, e);
	} else if (strcmp(r->kind, "client") == 0) {
		result = control_load_client(r, e);
	} else if (strcmp(r->kind, "upgrade") == 0) {
		result = upgrade_load(r, e);
	} else if (strcmp(r->kind, "service") == 0) {
		result = set_load_record(r, e);
	} else {
		log_warning(
			"the state has a record of kind \"%s\", which this version does not know: skipped",
			r->kind);
	}
	return result;
}

int state_load(int fd, bool doubt, struct error *e)
{
	e->code = 0;
	doubting = doubt;
	int r = each_record(fd, load_record, e);

#ifdef MOLT_TEST_NO_STATE
	/* For one test alone: it fails as late as it can. */
	r = r < 0 ? r : error_say(e, EBADMSG, "this is a test");
#endif
	return r < 0 ? r : 0;
}

/* After a crash */

static int load_message(const struct record *r, struct error *e)
{
	(void)e;
	if (strcmp(r->kind, "message") == 0)
		inbox_load(r, notify_count());
	return 0;
}

/* Mostly there is nothing: what was noted is in the state since. */
static bool is_empty(int fd)
{
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0;
}

void state_load_messages(int fd)
{
	struct error e = {0};

	if (!is_empty(fd) && each_record(fd, load_message, &e) < 0)
		log_error("messages of services may be lost in the crash: %s", e.text);
	inbox_doubt_last();
}

static int load_note(const struct record *r, struct error *e)
{
	if (strcmp(r->kind, "fork") == 0)
		return set_load_fork(r, e);
	if (strcmp(r->kind, "request") == 0)
		control_load_request(r);
	if (strcmp(r->kind, "child") == 0) {
		boot_load_child(r);
		shutdown_load_child(r);
	}
	return 0;
}

void state_load_notes(int fd)
{
	struct error e = {0};

	if (!is_empty(fd) && each_record(fd, load_note, &e) < 0)
		log_error("what was done last before the crash is not known: %s", e.text);
}

static void sweep(int fd)
{
	if (!control_adopt_stray(fd))
		identity_leave(fd);
}

void state_sweep_descriptors(void)
{
	identity_each_inherited(sweep);
}

/* --check-state */

static bool version_seen;
static unsigned n_lost;

static void say_warning(void *userdata, const char *text)
{
	(void)userdata;
	(void)dprintf(STDERR_FILENO, "%s\n", text);
}

static bool is_up(const struct record *r)
{
	const char *state = record_get(r, "state");

	return state && strcmp(state, "inactive") != 0 && strcmp(state, "failed") != 0;
}

static int check_record(const struct record *r, struct error *e)
{
	struct unit *unit = NULL;

	if (strcmp(r->kind, "molt-state") == 0)
		version_seen = true;
	if (strcmp(r->kind, "service") != 0)
		return 0;
	struct error why;
	if (unit_load(&unit, AT_FDCWD, UNIT_PATH, r->id, say_warning, NULL, &why) == 0) {
		unit_free(unit);
	} else if (is_up(r)) {
		(void)error_say(e, EINVAL, "%s is running and cannot be loaded from this image: %s",
			r->id, why.text);
		n_lost++;
		say_warning(NULL, e->text);
	} else {
		say_warning(NULL, why.text);
	}
	return 0;
}

int state_check(int fd)
{
	struct system_conf *conf = NULL;
	struct error e = {0};

	int r = system_conf_load(&conf, AT_FDCWD, say_warning, NULL, &e);
	system_conf_free(conf);
	if (r == 0)
		r = each_record(fd, check_record, &e);
	if (r == 0 && !version_seen)
		r = error_say(&e, EBADMSG, "the state has no version");
	if (r < 0)
		say_warning(NULL, e.text);
	if (r < 0 || n_lost > 0)
		return 1;
	(void)dprintf(STDERR_FILENO, "%s\n", STATE_CHECK_PASSED);
	return 0;
}
