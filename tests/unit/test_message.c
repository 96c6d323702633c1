/* SPDX-License-Identifier: MIT */
/* What services say, taken apart; and what becomes of their answers to PREPARE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <string.h>

#include "kernel/util.h"
#include "services/message.h"
#include "services/vote.h"

static struct notification parse(char *buf, const char *text)
{
	struct notification n;

	(void)stpcpy(buf, text);
	notification_parse(buf, &n);
	return n;
}

static void test_notification(void **state)
{
	char buf[512];
	struct notification n = parse(buf,
		"READY=1\nSTATUS=a=b\nMAINPID=7\nFDSTORE=1\nFDNAME=x\nFDPOLL=0\nWATCHDOG=trigger\n"
		"MONOTONIC_USEC=5\nSTATUS=second\n\nnonsense\n=\nUNKNOWN=1");

	(void)state;
	assert_true(n.ready && n.fd_store && n.fd_no_poll && n.watchdog_trigger);
	assert_false(n.watchdog || n.reloading || n.stopping || n.barrier || n.fd_store_remove);
	assert_string_equal(n.status, "a=b");
	assert_string_equal(n.main_pid, "7");
	assert_string_equal(n.fd_name, "x");
	assert_string_equal(n.monotonic_usec, "5");
	assert_null(n.error_number);
	n = parse(buf, "READY=0\nWATCHDOG=2\nFDSTORE=yes\nready=1\nFDPOLL=1");
	assert_false(n.ready || n.watchdog || n.fd_store || n.fd_no_poll);
	n = parse(buf, "");
	assert_false(n.ready);
	n = parse(buf, "RELOADING=1\nSTOPPING=1\nBARRIER=1\nWATCHDOG=1\nFDSTOREREMOVE=1\n"
		       "MAINPIDFD=1\nERRNO=2\nEXIT_STATUS=3\nNOTIFYACCESS=main\nWATCHDOG_USEC=4\n"
		       "EXTEND_TIMEOUT_USEC=5");
	assert_true(n.reloading && n.stopping && n.barrier && n.watchdog && n.fd_store_remove);
	assert_true(n.main_pidfd);
	assert_string_equal(n.error_number, "2");
	assert_string_equal(n.notify_access, "main");
	assert_string_equal(n.watchdog_usec, "4");
	assert_string_equal(n.extend_timeout_usec, "5");
}

static struct answer answer(const char *text)
{
	struct answer a;

	answer_parse(text, strlen(text), &a);
	return a;
}

static void test_answers(void **state)
{
	(void)state;
	assert_int_equal(answer("PREPARED=1").kind, ANSWER_PREPARED);
	assert_int_equal(answer("PREPARED=1\n").kind, ANSWER_PREPARED);
	assert_true(answer("PREPARED=1").deadline_usec == 0);
	struct answer a = answer("PREPARED=1 deadline_usec=123");
	assert_int_equal(a.kind, ANSWER_PREPARED);
	assert_true(a.deadline_usec == 123);
	a = answer("deadline_usec=9 REFUSED=a backup is running");
	assert_int_equal(a.kind, ANSWER_REFUSED);
	assert_string_equal(a.reason, "a backup is running");
	assert_true(a.deadline_usec == 9);
	a = answer("REFUSED=no PREPARED=1\ndeadline_usec=8\nPREPARED=1");
	assert_int_equal(a.kind, ANSWER_REFUSED);
	assert_string_equal(a.reason, "no PREPARED=1");
	assert_true(a.deadline_usec == 8);
	a = answer("PREPARED=1 REFUSED=");
	assert_int_equal(a.kind, ANSWER_REFUSED);
	assert_string_equal(a.reason, "it gives no reason");

	static const char *const NONE[] = {"", " ", "\n", "PREPARED", "PREPARED=0", "PREPARED=10",
		"prepared=1", "XPREPARED=1", "REFUSED", "refused=x", "deadline_usec=1",
		"====", "deadline_usec=99999999999999999999999999999999", "\n\n \n"};
	for (size_t i = 0; i < ARRAY_SIZE(NONE); i++)
		if (answer(NONE[i]).kind != ANSWER_NONE)
			fail_msg("\"%s\" is taken for an answer", NONE[i]);
	/* A packet may have any bytes. */
	answer_parse("\0\0REFUSED=x", 11, &a);
	assert_int_equal(a.kind, ANSWER_NONE);
}

static const char *clean(const char *text)
{
	static char buf[64];

	message_sanitize(text, strlen(text), buf, sizeof(buf));
	return buf;
}

static void test_reasons_are_fit_for_a_log(void **state)
{
	char buf[8], many[4000];

	(void)state;
	assert_string_equal(clean("a\nb\tc\x1b[31m\x7f"), "a?b?c?[31m?");
	assert_string_equal(clean("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\xa6\x9e"),
		"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\xa6\x9e");
	assert_string_equal(clean("\xff\xfe\xc0\x80\xc3"), "?????");
	assert_string_equal(clean("\xc2\x9b"), "??"); /* CSI in one character */
	assert_string_equal(clean("\xe2\x82"), "??");
	message_sanitize("abcdef\xc3\xbc", 8, buf, sizeof(buf));
	assert_string_equal(buf, "abcdef"); /* no half of a character */
	(void)memset(many, 'x', sizeof(many));
	(void)memcpy(many, "REFUSED=", 8);
	struct answer a;
	answer_parse(many, sizeof(many), &a);
	assert_int_equal(strlen(a.reason), REASON_MAX);
}

static void put(struct ballot *b, const char *text, bool expected)
{
	struct answer a = answer(text);

	assert_int_equal(ballot_put(b, &a), expected);
}

static void test_ballots(void **state)
{
	const struct ballot fresh = {.vote = VOTE_ASKED, .deadline_usec = 100, .id_usec = 100};
	struct ballot b = fresh;

	(void)state;
	assert_int_equal(ballot_read(&b, false, 99), BALLOT_WAIT);
	assert_int_equal(ballot_read(&b, true, 99), BALLOT_WAIT);
	assert_int_equal(ballot_read(&b, false, 100), BALLOT_LATE);
	assert_int_equal(ballot_read(&b, true, 100), BALLOT_LATE);
	put(&b, "PREPARED=1", true);
	assert_int_equal(ballot_read(&b, false, 500), BALLOT_YES);
	/* It may think again, */
	put(&b, "REFUSED=after all", true);
	assert_int_equal(ballot_read(&b, false, 50), BALLOT_NO);
	assert_int_equal(ballot_read(&b, true, 50), BALLOT_YES);
	/* but no is no. */
	put(&b, "PREPARED=1", true);
	assert_int_equal(ballot_read(&b, false, 50), BALLOT_NO);

	b = fresh; /* an answer to an earlier question */
	put(&b, "PREPARED=1 deadline_usec=50", true);
	assert_int_equal(ballot_read(&b, false, 60), BALLOT_WAIT);
	put(&b, "REFUSED=x\ndeadline_usec=50", true);
	assert_int_equal(ballot_read(&b, false, 60), BALLOT_WAIT);
	put(&b, "PREPARED=1 deadline_usec=100", true);
	assert_int_equal(ballot_read(&b, false, 60), BALLOT_YES);
	for (int i = 0; i < 5; i++)
		put(&b, "PREPARED=1", true);
	put(&b, "PREPARED=1", false); /* that is too many */

	b = (struct ballot){.vote = VOTE_NONE};
	put(&b, "PREPARED=1", false); /* it was not asked */
	assert_int_equal(ballot_read(&b, false, 0), BALLOT_YES);
	b = fresh;
	put(&b, "nonsense", false);
	b.vote = VOTE_LATE;
	assert_int_equal(ballot_read(&b, true, 500), BALLOT_YES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_notification),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_reasons_are_fit_for_a_log),
		cmocka_unit_test(test_ballots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
