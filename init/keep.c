/* SPDX-License-Identifier: MIT */
#include "init/keep.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/record.h"
#include "init/state.h"
#include "kernel/crash.h"
#include "kernel/identity.h"
#include "kernel/log.h"
#include "kernel/loop.h"
#include "kernel/process.h"
#include "kernel/util.h"
#include "services/notify.h"

/* While events do not end: what a state may be behind, and about a fifth of the time at worst. */
#define POSTPONE_USEC 2000

static int memfd[2] = {-1, -1};
static int notes = -1;
static off_t notes_end;
static unsigned latest; /* which of the two is whole */
static struct record_writer text[2];
static uint64_t written_usec;
static bool failed; /* said once */

static int write_at(int fd, const char *buf, size_t length, off_t at)
{
	while (length > 0) {
		ssize_t n = pwrite(fd, buf, length, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

static int write_state(unsigned which)
{
	struct record_writer *w = &text[which];
	int r = write_at(memfd[which], w->text, w->length, 0);

	/* It was of another length the time before last. */
	return r == 0 && ftruncate(memfd[which], (off_t)w->length) < 0 ? -errno : r;
}

static void forget_notes(void)
{
	if (notes_end > 0 && ftruncate(notes, 0) == 0)
		notes_end = 0;
}

static bool is_same(const struct record_writer *a, const struct record_writer *b)
{
	return a->length == b->length && a->text && memcmp(a->text, b->text, a->length) == 0;
}

static int write_down(void)
{
	unsigned next = 1 - latest;
	int r;

	record_writer_reset(&text[next]);
	state_write(&text[next]);
	if (text[next].error)
		return text[next].error;
	if (is_same(&text[latest], &text[next]))
		return 0;
	r = write_state(next);
	if (r < 0)
		return r;
	/* From here on it is the one; what was noted since the last is in it. */
	latest = next;
	crash_set_state(memfd[latest], notes);
	return 0;
}

void keep_now(void)
{
	int r;

	if (memfd[latest] < 0) {
		notify_close_spent();
		return;
	}
	r = write_down();
	if (r == 0)
		forget_notes();
	if (r < 0 && !failed)
		log_error("cannot keep the state for a life after a crash: %s", strerror(-r));
	failed = r < 0;
	written_usec = clock_usec();
	process_bury();
	notify_close_spent();
}

void keep_turn(void)
{
	if (process_to_bury() || notify_has_spent() ||
		clock_usec() - written_usec > POSTPONE_USEC || loop_is_idle())
		keep_now();
}

int keep_open(struct error *e)
{
	for (unsigned i = 0; i < 2; i++) {
		memfd[i] = memfd_create("molt-kept", MFD_CLOEXEC);
		if (memfd[i] < 0)
			return error_set(e, errno, "cannot keep the state in memory");
	}
	int own = memfd_create("molt-notes", MFD_CLOEXEC);
	if (own < 0)
		return error_set(e, errno, "cannot keep notes in memory");
	int before = notes;
	off_t before_end = notes_end;
	notes = own;
	notes_end = 0;
	process_keep_dead();
	int r = write_down();
	if (r < 0) {
		notes = before;
		notes_end = before_end;
		(void)fd_close(own);
		return error_set(e, r, "cannot keep the state in memory");
	}
	(void)fd_close(before);
	keep_now();
	return 0;
}

void keep_notes_from(int state_fd, int notes_fd)
{
	off_t end = notes_fd < 0 ? 0 : lseek(notes_fd, 0, SEEK_END);

	notes = notes_fd < 0 ? memfd_create("molt-notes", MFD_CLOEXEC) : notes_fd;
	notes_end = end < 0 ? 0 : end;
	crash_set_state(state_fd, notes);
}

static void note(struct record_writer *w)
{
	record_end(w);
	/* One that cannot be written costs what is noted, and only if PID 1 crashes in this turn.
	 */
	if (notes >= 0 && !w->error && write_at(notes, w->text, w->length, notes_end) == 0)
		notes_end += (off_t)w->length;
	record_writer_done(w);
}

void keep_note_fork(const struct service *s, const struct fork_note *n)
{
	struct record_writer w = {0};

	record_begin(&w, "fork", s->unit->name);
	service_write_fork(&w, n);
	note(&w);
}

void keep_note_child(const char *what, pid_t pid)
{
	struct record_writer w = {0};

	record_begin(&w, "child", what);
	record_int(&w, "pid", pid);
	note(&w);
}

void keep_note_message(const struct letter *l)
{
	struct record_writer w = {0};

	record_begin(&w, "message", l->unit);
	inbox_write(&w, l);
	note(&w);
}

void keep_note_request(int client_fd)
{
	struct record_writer w = {0};

	record_begin(&w, "request", "");
	record_text(&w, "identity", identity_of(client_fd));
	note(&w);
}
