// SPDX-License-Identifier: MIT
// What a guard takes for the end of a program, and what not; and a guard at work on a process.
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// After the headers it needs.
#include <cmocka.h>

#include "kernel/guard.h"
#include "kernel/guard_watch.h"
#include "kernel/proc.h"
#include "kernel/util.h"

#define SELF 77

static const char *after_signal(int signal, int code, pid_t sender)
{
	static struct guard_watch w;

	w = (struct guard_watch){.tracee = SELF};
	return guard_signal_is_the_end(&w, signal, code, sender) ? w.why : "";
}

static void faults_are_the_end(void **state)
{
	static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

	(void)state;
	for (size_t i = 0; i < sizeof(FAULTS) / sizeof(FAULTS[0]); i++) {
		assert_string_not_equal(after_signal(FAULTS[i], SI_KERNEL, 0), "");
		assert_string_not_equal(after_signal(FAULTS[i], 1, 0), "");
		// Sent by somebody: an init does not get it.
		assert_string_equal(after_signal(FAULTS[i], SI_USER, 9), "");
		assert_string_equal(after_signal(FAULTS[i], SI_TKILL, 9), "");
		assert_string_equal(after_signal(FAULTS[i], SI_QUEUE, 9), "");
	}
	assert_string_equal(
		after_signal(SIGSEGV, SEGV_MAPERR, 0), "was killed by SIGSEGV while it took over");
}

static void abort_is_the_end(void **state)
{
	(void)state;
	assert_string_equal(
		after_signal(SIGABRT, SI_TKILL, SELF), "was killed by SIGABRT while it took over");
	assert_string_equal(after_signal(SIGABRT, SI_TKILL, 9), "");
	assert_string_equal(after_signal(SIGABRT, SI_USER, SELF), "");
}

static void other_signals_are_not(void **state)
{
	(void)state;
	for (int signal = 1; signal < 64; signal++) {
		bool fault = signal == SIGSEGV || signal == SIGBUS || signal == SIGILL ||
			     signal == SIGFPE || signal == SIGTRAP || signal == SIGSYS;
		if (!fault)
			assert_string_equal(after_signal(signal, SI_KERNEL, 0), "");
	}
}

static const char *after_call(long number, uint64_t first, uint64_t third)
{
	static struct guard_watch w;
	const uint64_t args[6] = {first, 0, third, 0, 0, 0};

	w = (struct guard_watch){.tracee = SELF};
	return guard_call_is_the_end(&w, number, args) ? w.why : "";
}

static void exits_are_the_end(void **state)
{
	(void)state;
	assert_string_equal(
		after_call(SYS_exit_group, 127, 0), "exited with code 127 while it took over");
	assert_string_equal(
		after_call(SYS_exit, 256 + 3, 0), "exited with code 3 while it took over");
}

static void reboots_are_the_end(void **state)
{
	(void)state;
	assert_string_not_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_RESTART), "");
	assert_string_not_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_POWER_OFF), "");
	assert_string_not_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_HALT), "");
	assert_string_not_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_KEXEC), "");
	// What every init does with the three keys.
	assert_string_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_CAD_OFF), "");
	assert_string_equal(after_call(SYS_reboot, 0, LINUX_REBOOT_CMD_CAD_ON), "");
}

static void other_calls_are_not(void **state)
{
	(void)state;
	assert_string_equal(after_call(SYS_execve, 0, 0), "");
	assert_string_equal(after_call(SYS_close, 0, 0), "");
	assert_string_equal(after_call(-1, 0, 0), "");
}

// At work: a child that executes a script of bash, guarded by another script.

#define TIMEOUT_USEC 300000

struct outcome {
	int status; // as waitpid(2) has it
	char text[256]; // what both scripts printed
};

static void __attribute__((noreturn)) become(const char *program, char *script, char *fallback)
{
	static char *const NONE[] = {NULL};
	char number[16];
	char *argv[] = {"bash", "-c", script, "x", number, NULL};
	char *back[] = {"bash", "-c", fallback, "", "", NULL};
	struct guard_fallback f = {.exe = open("/bin/bash", O_PATH | O_CLOEXEC),
		.root = open("/", O_PATH | O_CLOEXEC),
		.kept = -1,
		.argv = back,
		.why = 3,
		.channel = 4,
		.environment = NONE};
	struct guard g;
	struct error e;

	if (guard_begin(&g, &f, TIMEOUT_USEC, &e) < 0) {
		(void)printf("%s\n", e.text);
		(void)fflush(stdout);
		_exit(99);
	}
	(void)snprintf(number, sizeof(number), "%d", g.channel);
	(void)execve(program, argv, NONE);
	guard_cancel(&g);
	_exit(9);
}

static struct outcome play(const char *program, char *script, char *fallback)
{
	struct outcome result = {0};
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(ends[1], 1);
		(void)dup2(ends[1], 50);
		become(program, script, fallback);
	}
	(void)close(ends[1]);
	size_t used = 0;
	ssize_t n;
	while ((n = read(ends[0], result.text + used, sizeof(result.text) - 1 - used)) > 0)
		used += (size_t)n;
	(void)close(ends[0]);
	assert_int_equal(waitpid(pid, &result.status, 0), pid);
	return result;
}

#define BACK "echo u >&$1; echo \"$0\"; exit 7"

static void expect_back(char *script, const char *text)
{
	struct outcome o = play("/bin/bash", script, BACK);

	assert_string_equal(o.text, text);
	assert_true(WIFEXITED(o.status));
	assert_int_equal(WEXITSTATUS(o.status), 7);
}

static void one_that_exits_is_replaced(void **state)
{
	(void)state;
	expect_back("exit 3", "exited with code 3 while it took over\n");
}

static void one_that_says_so_is_replaced(void **state)
{
	(void)state;
	expect_back("printf 'fdid not like it' >&$1; exit 3", "did not like it\n");
}

static void one_that_is_late_is_replaced(void **state)
{
	(void)state;
	expect_back("while :; do :; done", "did not take over within 300 ms\n");
	expect_back("read -t 100 x <> <(:)", "did not take over within 300 ms\n");
}

static void one_that_is_loaded_is_replaced_as_well(void **state)
{
	(void)state;
	expect_back("echo l >&$1; while :; do :; done", "did not take over within 300 ms\n");
	expect_back("echo l >&$1; read -t 0.05 x <> <(:); echo fno >&$1; read -t 100 x <> <(:)",
		"no\n\n");
}

static bool stands_in_its_exit(pid_t pid)
{
	struct proc_stat stat;
	char path[40], text[256];

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	return proc_stat_read(pid, &stat) == 0 && stat.state == 't' &&
	       file_read(AT_FDCWD, path, text, sizeof(text)) > 0 &&
	       strtol(text, NULL, 10) == SYS_exit_group;
}

static pid_t guard_of(pid_t pid)
{
	char path[40], text[4096];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	return (pid_t)strtol(strstr(text, "TracerPid:") + strlen("TracerPid:"), NULL, 10);
}

// As where memory is short, for as long as it takes.
static void lose_its_voice(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOBUFS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = (unsigned short)(sizeof(code) / sizeof(code[0])), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(7);
}

// What this program does in the place of bash: it is loaded as an init is, and ends.
static int behave(const char *how, int channel)
{
	if (strcmp(how, "mute") == 0)
		lose_its_voice();
	guard_say_loaded(channel);
	if (strcmp(how, "hoarse") == 0)
		lose_its_voice();
	if (strcmp(how, "exit") == 0)
		exit(3);
	if (strcmp(how, "_exit") == 0)
		_exit(4);
	if (strcmp(how, "raw") == 0)
		(void)syscall(SYS_exit_group, 3);
	// A child ends as it likes, and so does who is up.
	pid_t pid = fork();
	int status = 0;
	if (pid == 0)
		_exit(5);
	if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 5)
		_exit(6);
	guard_say_up(channel);
	_exit(guard_of(getpid()) == 0 ? 8 : 10);
}

static void one_that_is_loaded_and_exits_is_replaced(void **state)
{
	(void)state;
	expect_back("echo l >&$1; exit 3", "exited with code 3 while it took over\n");
	struct outcome o = play("/proc/self/exe", "_exit", BACK);
	assert_string_equal(o.text, "exited with code 4 while it took over\n");
	o = play("/proc/self/exe", "exit", BACK);
	assert_string_equal(o.text, "exited while it took over\n");
	o = play("/proc/self/exe", "up", BACK);
	assert_string_equal(o.text, "");
	assert_int_equal(WEXITSTATUS(o.status), 8);
}

// Without libc: too late for another program, but not for keeping it.
static void one_that_is_loaded_does_not_end(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0)
		become("/proc/self/exe", "raw", BACK);
	while (!stands_in_its_exit(pid))
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	// Nobody can kill it there; without its guard it goes on to its end.
	assert_int_equal(kill(guard_of(pid), SIGKILL), 0);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 3);
}

static void one_that_is_up_is_let_go(void **state)
{
	(void)state;
	struct outcome o = play("/bin/bash", "echo u >&$1; echo up; exit 3", BACK);

	assert_string_equal(o.text, "up\n");
	assert_int_equal(WEXITSTATUS(o.status), 3);
	// Its end is its own, from then on.
	o = play("/bin/bash", "echo u >&$1; kill -KILL $$", BACK);
	assert_true(WIFSIGNALED(o.status));
}

// It is let go before its deadline, after which it would be what it was, in the middle of its work.
static void one_that_cannot_say_that_it_is_up_is_let_go(void **state)
{
	(void)state;
	struct outcome o = play("/proc/self/exe", "hoarse", BACK);

	assert_string_equal(o.text, "");
	assert_int_equal(WEXITSTATUS(o.status), 8);
	o = play("/proc/self/exe", "mute", BACK);
	assert_string_equal(o.text, "");
	assert_int_equal(WEXITSTATUS(o.status), 8);
}

static void an_exec_that_fails_is_only_that(void **state)
{
	(void)state;
	struct outcome o = play("/nonexistent", "", BACK);

	assert_string_equal(o.text, "");
	assert_int_equal(WEXITSTATUS(o.status), 9);
}

static void descriptors_come_back(void **state)
{
	(void)state;
	struct outcome o = play("/bin/bash", "exec 50>&- 1<&- 40</dev/null 51</dev/null; exit 1",
		"echo u >&$1; [ -e /proc/self/fd/40 ] || [ -e /proc/self/fd/51 ] || echo \"$0\" >&50");

	assert_string_equal(o.text, "exited with code 1 while it took over\n");
}

static void root_comes_back(void **state)
{
	(void)state;
	expect_back("cd /proc/1; exit 2", "exited with code 2 while it took over\n");
}

int main(int argc, char *argv[])
{
	if (argc == 5)
		return behave(argv[2], atoi(argv[4]));

	const struct CMUnitTest decisions[] = {
		cmocka_unit_test(faults_are_the_end),
		cmocka_unit_test(abort_is_the_end),
		cmocka_unit_test(other_signals_are_not),
		cmocka_unit_test(exits_are_the_end),
		cmocka_unit_test(reboots_are_the_end),
		cmocka_unit_test(other_calls_are_not),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_are_the_end),
		cmocka_unit_test(abort_is_the_end),
		cmocka_unit_test(other_signals_are_not),
		cmocka_unit_test(exits_are_the_end),
		cmocka_unit_test(reboots_are_the_end),
		cmocka_unit_test(other_calls_are_not),
		cmocka_unit_test(one_that_exits_is_replaced),
		cmocka_unit_test(one_that_says_so_is_replaced),
		cmocka_unit_test(one_that_is_late_is_replaced),
		cmocka_unit_test(one_that_is_loaded_is_replaced_as_well),
		cmocka_unit_test(one_that_is_loaded_and_exits_is_replaced),
		cmocka_unit_test(one_that_is_loaded_does_not_end),
		cmocka_unit_test(one_that_is_up_is_let_go),
		cmocka_unit_test(one_that_cannot_say_that_it_is_up_is_let_go),
		cmocka_unit_test(an_exec_that_fails_is_only_that),
		cmocka_unit_test(descriptors_come_back),
		cmocka_unit_test(root_comes_back),
	};

	/* The way back changes the root. */
	if (geteuid() != 0) {
		print_message("guards at work need root: skipped\n");
		return cmocka_run_group_tests(decisions, NULL, NULL);
	}
	(void)alarm(60); /* one that is held stands still for ever */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
