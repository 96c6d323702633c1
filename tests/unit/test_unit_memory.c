/* SPDX-License-Identifier: MIT */
/*
 * conf/ without memory: for every N, the Nth allocation fails. The outcome must be an error, with
 * nothing leaked and nothing half done; and once no allocation fails any more, the right result.
 *
 * The allocator is replaced in this program alone, before the C library's or a sanitizer's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/record.h"
#include "conf/system.h"
#include "conf/unit.h"

/* --- the allocator --- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);
/* A sanitizer's, if there is one. */
void *__interceptor_malloc(size_t size) __attribute__((weak));
void *__interceptor_calloc(size_t n, size_t size) __attribute__((weak));
void *__interceptor_realloc(void *p, size_t size) __attribute__((weak));
void __interceptor_free(void *p) __attribute__((weak));

static bool counting;
static long until_failure; /* allocations that still succeed */
static long failures;
static long live; /* allocated and not freed, while counting */

static bool fails(void)
{
	if (!counting || until_failure-- > 0)
		return false;
	failures++;
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	live += counting && p;
	return p;
}

void *malloc(size_t size)
{
	if (fails())
		return NULL;
	return counted(__interceptor_malloc ? __interceptor_malloc(size) : __libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
	if (fails())
		return NULL;
	return counted(
		__interceptor_calloc ? __interceptor_calloc(n, size) : __libc_calloc(n, size));
}

void *realloc(void *p, size_t size)
{
	if (fails())
		return NULL;
	void *moved =
		__interceptor_realloc ? __interceptor_realloc(p, size) : __libc_realloc(p, size);
	if (!p)
		(void)counted(moved);
	return moved;
}

/* A sanitizer has its own, which would not come by here. */
void *reallocarray(void *p, size_t n, size_t size)
{
	return realloc(p, n * size);
}

char *strdup(const char *s)
{
	size_t size = strlen(s) + 1;
	char *copy = malloc(size);

	return copy ? memcpy(copy, s, size) : NULL;
}

char *strndup(const char *s, size_t n)
{
	size_t length = strnlen(s, n);
	char *copy = malloc(length + 1);

	if (copy)
		*(char *)mempcpy(copy, s, length) = '\0';
	return copy;
}

void free(void *p)
{
	live -= counting && p;
	if (__interceptor_free)
		__interceptor_free(p);
	else
		__libc_free(p);
}

/* --- the scenarios: each returns 0 or a negative errno, and frees what it got --- */

static const char unit_text[] =
	"[Unit]\nDescription=d %n\nAfter=a.service b.service\nRequires=c.service\n"
	"[Service]\nType=notify\nExecStartPre=-/bin/a 'b c' ; /bin/d\nExecStart=@/bin/x y \\; %N\n"
	"ExecStop=/bin/y\nPIDFile=x.pid\nUser=u\nGroup=g\nEnvironment=A=1 B=2 A=3\n"
	"EnvironmentFile=-/etc/default/x\nWorkingDirectory=-/srv\nRuntimeDirectory=x\nRuntimeDirectory=y\n"
	"AmbientCapabilities=CAP_CHOWN\nPrivateTmp=yes\nNoSuchKey=1\n"
	"[Socket]\nListen=80\nListen=[::1]:81\nListen=/run/x\nListenDatagram=/run/y\n"
	"FileDescriptorName=n\nSocketUser=u\nSymlinks=/a /b\n[Upgrade]\nPolicy=handover\n";

static void no_warning(void *userdata, const char *text)
{
	(void)userdata;
	(void)text;
}

static int parses_a_unit(void)
{
	struct unit *u = NULL;
	struct error e = {0};
	int r = unit_parse(
		&u, "x.service", "x", unit_text, strlen(unit_text), no_warning, NULL, &e);

	if (r < 0)
		return !u && e.code == r && strstr(e.text, "memory") ? r : -EPROTO;
	bool whole = u->exec_start_pre.count == 2 && u->n_listen == 4 &&
		     strings_count(u->environment) == 2 && strings_count(u->after) == 2;
	unit_free(u);
	return whole ? 0 : -EPROTO;
}

static int root = -1;

static int loads_a_unit(void)
{
	static const char *const path[] = {"/etc", "/lib", NULL};
	struct unit *u = NULL;
	struct error e = {0};
	int r = unit_load(&u, root, path, "x@1", no_warning, NULL, &e);

	if (r < 0)
		return !u && e.code == r && strstr(e.text, "memory") ? r : -EPROTO;
	bool whole = strcmp(u->user, "from-dropin") == 0 && u->n_listen == 2;
	unit_free(u);
	return whole ? 0 : -EPROTO;
}

static int loads_init_conf(void)
{
	struct system_conf *c = NULL;
	struct error e = {0};
	int r = system_conf_load(&c, root, no_warning, NULL, &e);

	if (r < 0)
		return !c && e.code == r && strstr(e.text, "memory") ? r : -EPROTO;
	bool whole = strings_count(c->services) == 2 && strcmp(c->hostname, "box") == 0;
	system_conf_free(c);
	return whole ? 0 : -EPROTO;
}

static int expands_a_command(void)
{
	static char *words[] = {"/bin/x", "$A", "-${B}-", "$$", NULL};
	static char *environment[] = {"A=one 'two three'", "B=b", NULL};
	struct command c = {.argv = words};
	char **argv = NULL;
	int r = command_expand(&c, environment, &argv);

	if (r < 0)
		return argv ? -EPROTO : r;
	bool whole = strings_count(argv) == 5;
	strings_free(argv);
	return whole ? 0 : -EPROTO;
}

static int reads_an_environment_file(void)
{
	static const char text[] = "A=1\nB='2'\nA=\"3\"\n";
	char **list = NULL;
	int r = environment_file_parse(text, strlen(text), &list);
	size_t n = strings_count(list);

	strings_free(list);
	return r < 0 ? r : n == 2 ? 0 : -EPROTO;
}

static int writes_records(void)
{
	struct record_writer w = {0};
	char large[2000];

	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	record_begin(&w, "one", "id");
	record_format(&w, "f", "%d", 1);
	record_end(&w);
	record_begin(&w, "two", "");
	for (int i = 0; i < 5; i++)
		record_text(&w, "large", large);
	record_end(&w);

	int r = w.error;
	/* What is left is whole records. */
	if (w.text &&
		(strlen(w.text) != w.length || (w.length && strncmp(w.text, "@one id\n", 8) != 0) ||
			(w.length && strcmp(w.text + w.length - 2, "\n\n") != 0)))
		r = -EPROTO;
	record_writer_done(&w);
	return r;
}

static int reads_records(void)
{
	static const char text[] = "@a\nx=1\n\n@b\nx=1\ny=\\n\nz=3\n\n";
	struct record_reader *r = NULL;
	struct record rec;
	int result = record_reader_new(&r, text, strlen(text));

	for (int n = 1; result == 0 && n > 0;) {
		n = record_next(r, &rec);
		if (n < 0) {
			/* It may be tried again. */
			until_failure = 1000;
			result = record_next(r, &rec) == 1 ? n : -EPROTO;
		}
	}
	record_reader_free(r);
	return result;
}

static void fail_each_allocation(int (*scenario)(void))
{
	for (long n = 0;; n++) {
		failures = 0;
		live = 0;
		until_failure = n;
		counting = true;
		int r = scenario();
		counting = false;
		if (live != 0)
			fail_msg("allocation %ld failing: %ld leaked", n, live);
		if (r != (failures ? -ENOMEM : 0))
			fail_msg("allocation %ld failing: result %d", n, r);
		if (!failures) {
			assert_true(n > 0);
			return;
		}
	}
}

#define SCENARIO(name)                        \
	static void test_##name(void **state) \
	{                                     \
		(void)state;                  \
		fail_each_allocation(name);   \
	}

SCENARIO(parses_a_unit)
SCENARIO(loads_a_unit)
SCENARIO(loads_init_conf)
SCENARIO(expands_a_command)
SCENARIO(reads_an_environment_file)
SCENARIO(writes_records)
SCENARIO(reads_records)

/* --- the files that two of them read --- */

struct file {
	const char *name;
	const char *text; /* NULL: a directory */
};

static const struct file files[] = {
	{"etc", NULL},
	{"lib", NULL},
	{"lib/x@.service", "[Unit]\nRequires=x@1.socket\n[Service]\nExecStart=/bin/x %i\n"},
	{"lib/x@1.socket", "[Socket]\nListenStream=/run/x\nListenDatagram=/run/y\n"
			   "SocketGroup=g\nSymlinks=/a\n"},
	{"lib/x@.service.d", NULL},
	{"lib/x@.service.d/1.conf", "[Service]\nUser=from-dropin\n"},
	{"etc/x@1.service.d", NULL},
	{"etc/x@1.service.d/2.conf", "[Service]\nGroup=g\n"},
	{"etc/molt", NULL},
	{"etc/molt/init.conf", "[Boot]\nServices=a.service\nHostname=box\n"},
	{"etc/molt/init.conf.d", NULL},
	{"etc/molt/init.conf.d/1.conf", "[Boot]\nServices=b.service\n[Manager]\nLogMaxSize=1M\n"},
};

#define N_FILES (sizeof(files) / sizeof(files[0]))

static char directory[] = "/tmp/molt-test-memory-XXXXXX";

static int make_files(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	for (size_t i = 0; i < N_FILES; i++) {
		if (!files[i].text) {
			assert_int_equal(mkdirat(root, files[i].name, 0755), 0);
			continue;
		}
		int fd = openat(root, files[i].name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		assert_true(write(fd, files[i].text, strlen(files[i].text)) > 0);
		assert_int_equal(close(fd), 0);
	}
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	for (size_t i = N_FILES; i-- > 0;)
		(void)unlinkat(root, files[i].name, files[i].text ? 0 : AT_REMOVEDIR);
	(void)close(root);
	(void)rmdir(directory);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parses_a_unit),
		cmocka_unit_test(test_loads_a_unit),
		cmocka_unit_test(test_loads_init_conf),
		cmocka_unit_test(test_expands_a_command),
		cmocka_unit_test(test_reads_an_environment_file),
		cmocka_unit_test(test_writes_records),
		cmocka_unit_test(test_reads_records),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
