/* SPDX-License-Identifier: MIT */
/* Directories passed into processes that may do nothing, or have no room for them. */
#include "tests/unit/inject_directories.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/resource.h>
#include <sys/uio.h>

static void drop_privileges(struct page *p)
{
	if (fchdir(old_dir) < 0 || setresgid(65534, 65534, 65534) < 0 ||
		setresuid(65534, 65534, 65534) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return;
	sleep_for_ever(p);
}

static void test_unprivileged(void **state)
{
	(void)state;
	move_cwd_of(drop_privileges);
}

/* Kills on anything but pause, exit and sigreturn. */
static void sleep_under_filter(struct page *p)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL_OF_PAUSE, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

	if (fchdir(old_dir) < 0 || setresuid(65534, 65534, 65534) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		return;
	sleep_for_ever(p);
}

static void test_seccomp_filter(void **state)
{
	struct child c = child_new(sleep_under_filter);

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	move_cwd(&c);
	/*
	 * And the filter is in force again: fchdir(2) by hand is still possible, by itself it would
	 * be death.
	 */
	assert_int_equal(kill(c.pid, 0), 0);
	child_end(&c);
}

static void fill_table(struct page *p, rlim_t soft, rlim_t hard)
{
	struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};

	if (fchdir(old_dir) < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	while (dup(old_dir) >= 0)
		;
	sleep_for_ever(p);
}

static void fill_to_soft_limit(struct page *p)
{
	fill_table(p, 64, 1024);
}

static void fill_to_hard_limit(struct page *p)
{
	fill_table(p, 64, 64);
}

static void test_full_table(void **state)
{
	(void)state;
	move_cwd_of(fill_to_soft_limit);
}

/*
 * Going over the hard limit takes CAP_SYS_RESOURCE: with it this works, without it the target stays
 * as it was.
 */
static void test_table_full_to_the_hard_limit(void **state)
{
	struct child c = child_new(fill_to_hard_limit);
	struct inject_change change = {.action = INJECT_CWD, .fd = new_dir};
	struct traces before;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	int r = apply(c.pid, &change, 1);
	assert_true(r == 0 || (r == -EMFILE && change.result == -ECANCELED));
	assert_true(same_file(c.pid, "cwd", r == 0 ? new_dir : old_dir));
	assert_no_traces(c.pid, &before);
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	child_end(&c);
}

static void forbid_memory(struct page *p)
{
	struct rlimit none = {.rlim_cur = 4096, .rlim_max = 4096};

	if (fchdir(old_dir) < 0 || setrlimit(RLIMIT_AS, &none) < 0)
		return;
	sleep_for_ever(p);
}

/* The stack pointer of a task that sleeps: the last but one field. */
static uint64_t stack_of(pid_t pid)
{
	char path[64], text[256];
	unsigned long long sp = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	assert_true(file_read(AT_FDCWD, path, text, sizeof(text)) > 0);
	assert_int_equal(sscanf(text, "%*s %*s %*s %*s %*s %*s %*s %llx", &sp), 1);
	return sp;
}

static void test_no_memory_to_be_had(void **state)
{
	struct child c = child_new(forbid_memory);
	char before[2048], after[2048];

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	struct iovec local = {.iov_base = before, .iov_len = sizeof(before)};
	struct iovec remote = {
		.iov_base = (void *)(stack_of(c.pid) - sizeof(before)), .iov_len = sizeof(before)};
	assert_int_equal(process_vm_readv(c.pid, &local, 1, &remote, 1, 0), sizeof(before));
	move_cwd(&c);
	local.iov_base = after;
	assert_int_equal(process_vm_readv(c.pid, &local, 1, &remote, 1, 0), sizeof(after));
	assert_memory_equal(after, before, sizeof(before));
	child_end(&c);
}

static void test_root_without_privilege(void **state)
{
	struct child c = child_new(drop_privileges);
	struct inject_change change = {.action = INJECT_ROOT, .fd = new_dir};
	struct traces before;

	(void)state;
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	assert_int_equal(apply(c.pid, &change, 1), -EPERM);
	assert_int_equal(change.result, -EPERM);
	assert_true(same_file(c.pid, "cwd", old_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
}

/* fchdir(2) looks at the permissions with the target's eyes. */
static void test_forbidden_directory(void **state)
{
	struct child c = child_new(drop_privileges);
	struct traces before;

	(void)state;
	assert_int_equal(mkdirat(new_dir, "secret", 0700), 0);
	int fd = openat(new_dir, "secret", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct inject_change changes[] = {
		{.action = INJECT_CWD, .fd = new_dir},
		{.action = INJECT_CWD, .fd = fd},
		{.action = INJECT_CWD, .fd = old_dir},
	};
	wait_asleep_in(c.pid, CALL_OF_PAUSE);
	look(c.pid, &before);
	assert_int_equal(apply(c.pid, changes, ARRAY_SIZE(changes)), -EACCES);
	assert_int_equal(changes[0].result, 0);
	assert_int_equal(changes[1].result, -EACCES);
	assert_int_equal(changes[2].result, -ECANCELED);
	assert_true(same_file(c.pid, "cwd", new_dir));
	assert_no_traces(c.pid, &before);
	child_end(&c);
	(void)close(fd);
	assert_int_equal(unlinkat(new_dir, "secret", AT_REMOVEDIR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_seccomp_filter),
		cmocka_unit_test(test_full_table),
		cmocka_unit_test(test_table_full_to_the_hard_limit),
		cmocka_unit_test(test_no_memory_to_be_had),
		cmocka_unit_test(test_root_without_privilege),
		cmocka_unit_test(test_forbidden_directory),
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
