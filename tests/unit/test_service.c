/* SPDX-License-Identifier: MIT */
/*
 * A service's table: that every state decides every event, that none of them breaks a service in
 * any state, and whole lives of real processes in a cgroup of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/proc.h"
#include "services/instance.h"
#include "services/message.h"
#include "services/policy.h"
#include "services/roll.h"
#include "services/service.h"
#include "tests/unit/own_cgroup.h"

static struct own_cgroup own;
static char directory[] = "/tmp/molt-test-service-XXXXXX";
static unsigned n_changes;

static void changed(struct service *s)
{
	(void)s;
	n_changes++;
}

static int set_up(void **state)
{
	(void)state;
	if (loop_init() < 0 || !own_cgroup_make(&own))
		return -1;
	world = (struct service_world){.tree = own.fd,
		.tree_path = own.path,
		.notify_path = "/nowhere",
		.log_directory = directory,
		.log_max_bytes = 1 << 20};
	service_changed = changed;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	while (process_reap_all())
		;
	return own_cgroup_end(&own) ? 0 : -1;
}

static struct service *service(const char *text)
{
	struct unit *u;
	struct error e;
	char whole[2048];

	int n = snprintf(whole, sizeof(whole), "[Service]\n%s\n", text);
	assert_in_range(n, 0, sizeof(whole) - 1);
	if (unit_parse(&u, "t.service", "t.service", whole, (size_t)n, NULL, NULL, &e) < 0)
		fail_msg("%s", e.text);
	struct service *s = service_new(u);
	assert_non_null(s);
	return s;
}

struct wish {
	struct service *service;
	enum service_state state;
};

static bool is_in(void *userdata)
{
	const struct wish *w = userdata;

	return w->service->state == w->state;
}

static void expect(struct service *s, enum service_state state)
{
	if (!run_until(is_in, &(struct wish){s, state}))
		fail_msg("%s instead of %s (%s)", service_state_name(s->state),
			service_state_name(state), s->why);
}

static bool is_down(void *userdata)
{
	return service_is_down(userdata);
}

static void end(struct service *s)
{
	s->restart_wanted = false;
	service_event(s, EVENT_STOP);
	if (s->state == STATE_WAITING)
		service_event(s, EVENT_STOP);
	assert_true(run_until(is_down, s));
	service_free(s);
}

static void test_every_pair_is_decided(void **state)
{
	(void)state;
	for (int i = 0; i < N_STATES; i++)
		for (int k = 0; k < N_EVENTS; k++)
			if (!service_decides((enum service_state)i, (enum service_event)k))
				fail_msg("state %s does not decide event %d",
					service_state_name((enum service_state)i), k);
	for (int i = 0; i < N_STATES; i++)
		for (int k = 0; k < i; k++)
			assert_string_not_equal(service_state_name((enum service_state)i),
				service_state_name((enum service_state)k));
	for (int i = 0; i < N_RESULTS; i++)
		assert_non_null(service_result_name((enum service_result)i));
}

#define EVERYTHING                                                                                    \
	"ExecStartPre=/bin/true\nExecStartPost=/bin/true\nExecReload=/bin/true\nExecStop=/bin/true\n" \
	"ExecStopPost=/bin/true\nRestart=always\nRestartSec=1ms\nTimeoutStopSec=200ms\nTimeoutStartSec=200ms\n"

static const char *const SERVICES[] = {
	EVERYTHING "ExecStart=/bin/sleep 1000",
	EVERYTHING "Type=exec\nExecStart=/bin/sleep 1000\nKillMode=mixed",
	EVERYTHING "Type=notify\nExecStart=/bin/sleep 1000\nKillMode=process",
	EVERYTHING "Type=forking\nExecStart=/bin/sh -c 'sleep 1000 & exit 0'",
	EVERYTHING
	"Type=forking\nPIDFile=/tmp/no-such-pid-file\nExecStart=/bin/sh -c 'sleep 1000 & exit 0'",
	"Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStart=/bin/false",
	EVERYTHING "ExecStart=/nowhere",
	EVERYTHING "ExecStart=/bin/sleep 1000\n[Unit]\nConditionPathExists=/",
	EVERYTHING "ExecStart=/bin/sleep 1000\n[Unit]\nConditionPathExists=!/",
	EVERYTHING "ExecStart=/bin/sleep 1000\n[Unit]\nAssertPathExists=!/",
	"ExecStart=/bin/false\nRestart=always\nRestartSec=0",
};

/* Any event at any moment, many times over: with nothing worse than a state that it can be stopped
 * from. */
static void test_events_at_random(void **state)
{
	static const enum service_event FROM_OUTSIDE[] = {EVENT_START, EVENT_STOP, EVENT_RELOAD,
		EVENT_READY, EVENT_RELOADING, EVENT_WATCHDOG};

	(void)state;
	srand(7);
	for (size_t i = 0; i < ARRAY_SIZE(SERVICES); i++) {
		struct service *s = service(SERVICES[i]);
		for (int round = 0; round < 150; round++) {
			service_event(s, FROM_OUTSIDE[(size_t)rand() % ARRAY_SIZE(FROM_OUTSIDE)]);
			if (timer_armed(&s->timer) && rand() % 8 == 0) {
				timer_cancel(&s->timer);
				service_event(s, EVENT_TIMEOUT);
			}
			struct loop_timer soon = {.expired = wake};
			for (int k = rand() % 4; k > 0; k--) {
				timer_set(&soon, deadline_in(500));
				assert_int_equal(loop_run_once(), 0);
			}
			timer_cancel(&soon);
			assert_true((s->current != NULL) || s->control.pid == 0);
		}
		end(s);
		assert_true(own_cgroup_is_empty(&own) || s == NULL || i > 0);
	}
}

/* One line of sd_notify(3). */
static void say(struct service *s, unsigned instance, const char *key, const char *value)
{
	struct notification n;
	char text[1200];

	(void)snprintf(text, sizeof(text), "%s=%s", key, value);
	notification_parse(text, &n);
	service_notify(s, instance, getpid(), &n, NULL, 0);
}

static void test_life_of_each_type(void **state)
{
	(void)state;
	struct service *s = service("ExecStart=/bin/sleep 1000");
	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	assert_true(service_is_active(s) && service_main_pid(s) > 0);
	end(s);

	s = service("Type=notify\nExecStart=/bin/sleep 1000");
	service_event(s, EVENT_START);
	expect(s, STATE_STARTING);
	assert_false(service_is_active(s));
	say(s, s->current->number + 1, "READY", "1"); /* another instance's */
	say(s, s->current->number, "READY", "0");
	say(s, s->current->number, "Ready", "1");
	assert_int_equal(s->state, STATE_STARTING);
	say(s, s->current->number, "READY", "1");
	assert_int_equal(s->state, STATE_RUNNING);
	end(s);

	s = service("Type=oneshot\nExecStart=/bin/true\nExecStart=/bin/true");
	service_event(s, EVENT_START);
	expect(s, STATE_INACTIVE);
	service_free(s);
}

/* That the last process has gone is an event for whoever waits, whoever else looks meanwhile. */
static void test_watchdog_takes_no_event(void **state)
{
	(void)state;
	/* Of two processes none is known to be the main one. */
	struct service *s =
		service("Type=forking\nExecStart=/bin/sh -c 'sleep 1000 & sleep 1000 & exit 0'\n"
			"WatchdogSec=3600");
	service_wait(s);
	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	assert_int_equal(service_main_pid(s), 0);
	instance_kill(s->current);
	for (uint64_t end = deadline_in(10 * USEC_PER_SEC); !instance_is_empty(s->current);)
		assert_true(clock_usec() < end);
	s->roll.state = ROLL_SETTLING;
	s->watchdog_timer.expired(&s->watchdog_timer);
	s->roll.state = ROLL_NONE;
	expect(s, STATE_INACTIVE);
	service_free(s);
}

static void test_notify_values(void **state)
{
	char many[1000];

	(void)state;
	struct service *s = service("ExecStart=/bin/sleep 1000");
	say(s, 1, "READY", "1"); /* nothing runs yet */
	service_event(s, EVENT_START);
	pid_t main_pid = service_main_pid(s);
	unsigned n = s->current->number;
	static const char *const BAD[] = {"", "0", "-1", "1", "x", "99999999999", "4194304000"};
	for (size_t i = 0; i < ARRAY_SIZE(BAD); i++)
		say(s, n, "MAINPID", BAD[i]);
	(void)snprintf(many, sizeof(many), "%d", (int)getpid());
	say(s, n, "MAINPID", many); /* of no service at all */
	assert_int_equal(service_main_pid(s), main_pid);
	(void)memset(many, 'x', sizeof(many));
	many[sizeof(many) - 1] = '\0';
	say(s, n, "STATUS", many);
	assert_int_equal(strlen(s->status_text), 200);
	say(s, n, "STATUS", "");
	assert_string_equal(s->status_text, "");
	say(s, n, "EXTEND_TIMEOUT_USEC", "1000000");
	assert_false(timer_armed(&s->timer)); /* it runs: there is no deadline to move */
	say(s, n, "", "");
	end(s);
}

/* A cgroup or a process that cannot be had fails this service, with a reason, and leaves nothing
 * half done. */
static void test_no_cgroup(void **state)
{
	(void)state;
	struct service *s = service("ExecStart=/bin/sleep 1000");
	int tree = world.tree;

	world.tree = -1;
	service_event(s, EVENT_START);
	world.tree = tree;
	assert_int_equal(s->state, STATE_FAILED);
	assert_int_equal(s->result, RESULT_RESOURCES);
	assert_non_null(strstr(s->why, "cgroup"));
	assert_null(s->current);
	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	end(s);
}

static void test_no_descriptors(void **state)
{
	struct rlimit limit, none;

	(void)state;
	struct service *s = service(
		"ExecStartPre=/bin/true\nExecStart=/bin/sleep 1000\nExecStopPost=/bin/true");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (rlim_t n = 3; n < 24; n++) {
		none = limit;
		none.rlim_cur = n;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		service_event(s, EVENT_START);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_true(s->state == STATE_FAILED || s->state == STATE_PRE ||
			    s->state == STATE_TERMINATING);
		if (s->state != STATE_FAILED)
			service_event(s, EVENT_STOP);
		assert_true(run_until(is_down, s));
	}
	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	end(s);
}

static void test_exec_failure_is_the_reason(void **state)
{
	static const char *const TEXTS[] = {"ExecStart=/nowhere/x",
		"Type=forking\nExecStart=/nowhere/x",
		"ExecStartPre=/nowhere/x\nExecStart=/bin/true",
		"Type=oneshot\nExecStart=/bin/true\nExecStart=/nowhere/x",
		"Type=oneshot\nExecStart=/bin/true\nExecStartPost=/nowhere/x"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(TEXTS); i++) {
		struct service *s = service(TEXTS[i]);
		service_event(s, EVENT_START);
		assert_false(service_is_settled(s));
		expect(s, STATE_FAILED);
		assert_int_equal(s->result, RESULT_EXEC);
		assert_non_null(strstr(s->why, "/nowhere/x: No such file or directory"));
		service_free(s);
	}
}

static void test_pid_file_is_no_file(void **state)
{
	char path[64], text[256];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/pid", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	(void)snprintf(text, sizeof(text), "Type=forking\nPIDFile=%s\nExecStart=/bin/true", path);
	struct service *s = service(text);
	pid_t pid = 42;
	struct instance i = {.service = s, .cgroup = -1};

	(void)alarm(10); /* it would wait for a writer for ever */
	assert_int_equal(instance_read_pid_file(&i, &pid), -EBADMSG);
	(void)alarm(0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(instance_read_pid_file(&i, &pid), -ENOENT);
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_int_equal(instance_read_pid_file(&i, &pid), -EBADMSG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(pid, 42);
	service_free(s);
}

/* That the last process has gone must reach whoever waits for it, also when somebody has looked
 * before. */
static void test_looking_does_not_take_the_event(void **state)
{
	(void)state;
	struct service *s = service("ExecStart=/bin/sleep 1000\nKillMode=none");
	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	struct instance *i = s->current;
	process_forget(&i->main);
	instance_kill(i);
	uint64_t deadline = deadline_in(10 * USEC_PER_SEC);
	while (!instance_is_empty(i) && clock_usec() < deadline)
		(void)usleep(1000);
	assert_true(instance_is_empty(i));
	expect(s, STATE_INACTIVE);
	service_free(s);
}

static struct {
	struct service *service;
	unsigned times;
	bool told_before;
} keeping;

static void keep(void)
{
	struct service *s = keeping.service;

	keeping.times++;
	keeping.told_before = !s->draining || s->drain_asked || !s->current ||
			      s->current->number <= s->draining->number;
}

static struct fork_note noted;

static void note(const struct service *s, const struct fork_note *n)
{
	(void)s;
	noted = *n;
}

static bool is_handed_over(void *userdata)
{
	const struct service *s = userdata;

	return s->roll.state == ROLL_DONE && !s->draining;
}

static struct service *hand_over(void)
{
	struct service *s = service(
		"ExecStart=/bin/sleep 1000\n[Upgrade]\nPolicy=handover\n[Socket]\nListenStream=@molt-test");
	uint64_t image;

	service_event(s, EVENT_START);
	expect(s, STATE_RUNNING);
	assert_int_equal(proc_link_mount(service_main_pid(s), "exe", &image), 0);
	s->roll.target = image;
	s->roll.deadline_usec = deadline_in(10 * USEC_PER_SEC);
	s->roll.state = ROLL_ASKED;
	service_keep = keep;
	service_forked = note;
	keeping.service = s;
	keeping.times = 0;
	roll_ask_handover(s);
	return s;
}

static void end_handed_over(struct service *s)
{
	service_keep = NULL;
	service_forked = NULL;
	end(s);
}

/* A life after a crash has to know that the old instance may end. */
static void test_told_to_drain_when_that_is_kept(void **state)
{
	(void)state;
	struct service *s = hand_over();
	unsigned number = s->current->number;
	assert_true(run_until(is_handed_over, s));
	assert_int_equal(keeping.times, 1);
	assert_false(keeping.told_before);
	assert_true(s->current->number > number);
	end_handed_over(s);
}

/* Nor does an init have to that knows nothing of it. */
static void test_told_to_drain_before_an_exec(void **state)
{
	(void)state;
	struct service *s = hand_over();
	uint64_t deadline = deadline_in(10 * USEC_PER_SEC);
	while (!s->draining && clock_usec() < deadline)
		assert_int_equal(loop_run_once(), 0);
	assert_non_null(s->draining);
	assert_false(s->drain_asked);
	policy_ask_to_drain(s);
	assert_true(s->drain_asked);
	policy_ask_to_drain(s);
	assert_int_equal(keeping.times, 1);
	assert_false(keeping.told_before);
	assert_true(run_until(is_handed_over, s));
	end_handed_over(s);
}

/* A note that is older than the state says nothing new, whatever has become of that process. */
static void test_old_note_is_no_news(void **state)
{
	struct record_writer w = {0};
	struct record_reader *reader;
	struct record r;
	struct error e;

	(void)state;
	struct service *s = hand_over();
	assert_true(run_until(is_handed_over, s));
	record_begin(&w, "fork", "t.service");
	service_write_fork(&w, &noted);
	record_end(&w);
	assert_int_equal(record_reader_new(&reader, w.text, w.length), 0);
	assert_int_equal(record_next(reader, &r), 1);
	struct instance *current = s->current;
	assert_int_equal(noted.role, FORK_INCOMING);
	assert_int_equal(current->number, noted.instance);
	assert_int_equal(service_load_fork(s, &r, &e), 0);
	assert_null(s->incoming);
	assert_ptr_equal(s->current, current);
	assert_int_equal(s->roll.state, ROLL_DONE);
	record_reader_free(reader);
	record_writer_done(&w);
	end_handed_over(s);
}

/* In a /tmp of our own, where that can be had: whatever ends us, nothing is left behind. */
static int make_directory(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) == 0 &&
		(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL) < 0))
		return -1;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/t.log", directory);
	(void)unlink(path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest decisions[] = {
		cmocka_unit_test(test_every_pair_is_decided),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair_is_decided),
		cmocka_unit_test_setup_teardown(test_life_of_each_type, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watchdog_takes_no_event, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_notify_values, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_cgroup, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_exec_failure_is_the_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pid_file_is_no_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_looking_does_not_take_the_event, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_told_to_drain_when_that_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_told_to_drain_before_an_exec, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_old_note_is_no_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_events_at_random, set_up, tear_down),
	};

	if (geteuid() != 0) {
		print_message("the lives of services need root: skipped\n");
		return cmocka_run_group_tests(decisions, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
