/* SPDX-License-Identifier: MIT */
/* What a service says, taken apart: sd_notify(3) and the answers of the handshake. Pure. */
#ifndef MOLT_SERVICES_MESSAGE_H
#define MOLT_SERVICES_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* systemd takes 4 KiB too (sd_notify(3) says nothing); what is longer is cut off by the kernel and
 * dropped. */
#define MESSAGE_MAX 4096

/* One datagram of sd_notify(3). The texts point into what was parsed; NULL: not said. Of a key that
 * is there twice the first counts, as in systemd. */
struct notification {
	bool ready, reloading, stopping, barrier;
	bool watchdog, watchdog_trigger;
	bool fd_store, fd_store_remove, fd_no_poll;
	bool main_pidfd; /* one of the descriptors is that of the main process */
	const char *main_pid, *status, *error_number, *bus_error, *exit_status, *notify_access;
	const char *fd_name, *monotonic_usec, *watchdog_usec, *extend_timeout_usec;
};

/* Takes `text` (which is cut up) apart; unknown keys and lines that are none are skipped. */
void notification_parse(char *text, struct notification *ret);

/* An answer in the handshake. */
enum answer_kind { ANSWER_NONE, ANSWER_PREPARED, ANSWER_REFUSED };

#define REASON_MAX 200

struct answer {
	enum answer_kind kind;
	uint64_t deadline_usec; /* which PREPARE it answers; 0: it does not say */
	char reason[REASON_MAX + 1]; /* fit for a log; of ANSWER_REFUSED */
};

/*
 * Takes a packet apart: KEY=value words with spaces or newlines between them; REFUSED= takes what
 * follows up to the end of its line. What is none is ANSWER_NONE; a packet that says both
 * PREPARED=1 and REFUSED= is a refusal.
 */
void answer_parse(const char *packet, size_t length, struct answer *ret);

/* Copies text for a line of a log: at most `size` - 1 bytes, cut between characters, every control
 * character and every byte that is no UTF-8 replaced by "?". */
void message_sanitize(const char *text, size_t length, char *buf, size_t size);

#endif
