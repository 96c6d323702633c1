/* SPDX-License-Identifier: MIT */
/* Looking units and their drop-ins up in directories. Each test has a root directory of its own. */
#include "tests/unit/own_root.h"

#include "conf/unit.h"
#include "tests/unit/heard.h"

static const char *const path[] = {"/etc/units", "/run/units", "/lib/units", NULL};

struct world {
	struct own_root root;
	struct unit *unit;
	struct error error;
	struct heard warnings;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	own_root_make(&w->root);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	unit_free(w->unit);
	own_root_remove(&w->root);
	free(w);
	return 0;
}

static void write_bytes(struct world *w, const char *name, const char *text, size_t length)
{
	own_root_write(&w->root, name, text, length);
}

static void write_file(struct world *w, const char *name, const char *text)
{
	own_root_write(&w->root, name, text, strlen(text));
}

static void make_link(struct world *w, const char *name, const char *target)
{
	own_root_make_parents(&w->root, name);
	assert_int_equal(symlinkat(target, w->root.fd, name), 0);
}

static int load(struct world *w, const char *name)
{
	unit_free(w->unit);
	w->unit = NULL;
	w->error = (struct error){0};
	int r = unit_load(&w->unit, w->root.fd, path, name, hear, &w->warnings, &w->error);
	if (r == 0)
		assert_string_equal(w->error.text, "");
	else
		assert_null(w->unit);
	return r;
}

#define UNIT(description) "[Unit]\nDescription=" description "\n[Service]\nExecStart=/bin/x\n"

static void expect(struct world *w, const char *name, const char *description)
{
	if (load(w, name) != 0)
		fail_msg("%s: %s", name, w->error.text);
	assert_string_equal(w->unit->description, description);
}

static void expect_error(struct world *w, const char *name, int code, const char *text)
{
	assert_int_equal(load(w, name), code);
	assert_string_equal(w->error.text, text);
	assert_int_equal(w->error.code, code);
}

static void the_first_directory_wins(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("lib"));
	expect(w, "a", "lib");
	write_file(w, "run/units/a.service", UNIT("run"));
	expect(w, "a", "run");
	write_file(w, "etc/units/a.service", UNIT("etc"));
	expect(w, "a.service", "etc");
	assert_string_equal(w->unit->name, "a.service");
	assert_string_equal(w->unit->source, "/etc/units/a.service");
	expect_error(w, "b", -ENOENT, "no directory of units has b.service");
}

/* What is wrong further up is not papered over by what is further down. */
static void a_broken_unit_hides_the_next(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("lib"));
	write_file(w, "etc/units/a.service", "[Service]\nRestart=sometimes\n");
	expect_error(w, "a", -EINVAL,
		"/etc/units/a.service:2: Restart=sometimes: not one of no, on-success, on-failure, "
		"on-abnormal, on-abort, on-watchdog, always");
}

static void an_instance_has_a_template(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a@.service", UNIT("template %p %i"));
	expect(w, "a@b-c", "template a b-c");
	assert_string_equal(w->unit->name, "a@b-c.service");
	write_file(w, "lib/units/a@b-c.service", UNIT("instance"));
	expect(w, "a@b-c.service", "instance");
	write_file(w, "etc/units/a@.service", UNIT("etc"));
	expect(w, "a@b-c", "instance");
	expect(w, "a@d", "etc");
	expect_error(
		w, "a@", -EINVAL, "a@.service is a template: put an instance's name after the @");
	expect_error(w, "c@d", -ENOENT, "no directory of units has c@d.service");
}

static void dropins_come_on_top(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("main") "Environment=M=1\n");
	write_file(
		w, "lib/units/a.service.d/10-x.conf", "[Service]\nEnvironment=A=lib\nUser=ten\n");
	write_file(
		w, "run/units/a.service.d/10-x.conf", "[Service]\nEnvironment=B=run\nGroup=ten\n");
	write_file(
		w, "etc/units/a.service.d/05-y.conf", "[Service]\nUser=five\nEnvironment=C=etc\n");
	write_file(w, "etc/units/a.service.d/20-z.conf",
		"[Service]\nGroup=twenty\nExecStart=\nExecStart=/bin/z\n");
	write_file(w, "etc/units/a.service.d/not-me.txt", "[Service]\nUser=txt\n");
	write_file(w, "etc/units/a.service.d/.hidden.conf", "[Service]\nUser=hidden\n");
	write_file(w, "etc/units/a.service.d/.conf", "[Service]\nUser=hidden\n");
	write_file(w, "etc/units/b.service.d/99.conf", "[Service]\nUser=other\n");

	expect(w, "a", "main");
	assert_int_equal(strings_count(w->unit->environment), 3);
	assert_string_equal(w->unit->environment[0], "M=1");
	assert_string_equal(w->unit->environment[1], "C=etc");
	assert_string_equal(w->unit->environment[2], "B=run");
	assert_string_equal(w->unit->user, "five");
	assert_string_equal(w->unit->group, "twenty");
	assert_int_equal(w->unit->exec_start.count, 1);
	assert_string_equal(w->unit->exec_start.items[0].path, "/bin/z");
	assert_string_equal(w->unit->source, "/lib/units/a.service");
}

static void dropins_are_told_by_file_and_line(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("main"));
	write_file(w, "etc/units/a.service.d/x.conf", "[Service]\nIOSchedulingClass=5\n");
	expect(w, "a", "main");
	assert_string_equal(w->warnings.text,
		"/etc/units/a.service.d/x.conf:2: IOSchedulingClass= in "
		"[Service] is not supported, ignored\n");
	write_file(w, "etc/units/a.service.d/y.conf", "[Service]\n\nUMask=x\n");
	expect_error(w, "a", -EINVAL,
		"/etc/units/a.service.d/y.conf:3: UMask=x: not an octal number up to 0777");
	/* A section does not reach from one file into the next. */
	write_file(w, "etc/units/a.service.d/y.conf", "User=x\n");
	expect_error(
		w, "a", -EINVAL, "/etc/units/a.service.d/y.conf:1: a key outside of any [section]");
}

static void masked_dropins_hide_others(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("main"));
	write_file(w, "lib/units/a.service.d/1.conf", "[Service]\nUser=one\n");
	write_file(w, "lib/units/a.service.d/2.conf", "[Service]\nGroup=two\n");
	write_file(w, "lib/units/a.service.d/3.conf", "[Service]\nUMask=0\n");
	make_link(w, "etc/units/a.service.d/1.conf", "/dev/null");
	write_file(w, "etc/units/a.service.d/2.conf", "");
	make_link(w, "etc/units/a.service.d/3.conf", "nowhere");
	expect(w, "a", "main");
	assert_null(w->unit->user);
	assert_null(w->unit->group);
	assert_int_equal(w->unit->umask, 0022);
}

static void instances_have_two_dropin_directories(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a@.service", UNIT("main"));
	write_file(w, "lib/units/a@.service.d/1.conf", "[Service]\nUser=%i\n");
	write_file(w, "lib/units/a@b.service.d/2.conf", "[Service]\nGroup=%i\n");
	expect(w, "a@b", "main");
	assert_string_equal(w->unit->user, "b");
	assert_string_equal(w->unit->group, "b");
	expect(w, "a@c", "main");
	assert_string_equal(w->unit->user, "c");
	assert_null(w->unit->group);
}

static void dropins_are_bounded(void **state)
{
	struct world *w = *state;
	char name[64];

	write_file(w, "lib/units/a.service", UNIT("main"));
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "lib/units/a.service.d/%d.conf", i);
		write_file(w, name, "[Service]\nUser=x\n");
	}
	expect(w, "a", "main");
	write_file(w, "lib/units/a.service.d/more.conf", "");
	expect_error(w, "a", -E2BIG, "/lib/units/a.service.d: more than 1000 drop-ins");
}

static void links_stay_inside_the_root(void **state)
{
	struct world *w = *state;

	write_file(w, "etc/target", UNIT("inside"));
	make_link(w, "lib/units/a.service", "/etc/target");
	make_link(w, "lib/units/b.service", "../../../../../../../../etc/target");
	make_link(w, "lib/units/c.service", "/proc/self/status");
	make_link(w, "lib/units/d.service", "nowhere");
	make_link(w, "lib/units/loop.service", "loop.service");
	write_file(w, "lib/real/e.service", UNIT("through a directory"));
	make_link(w, "run/units", "/lib/real");
	expect(w, "a", "inside");
	expect(w, "b", "inside");
	expect(w, "e", "through a directory");
	assert_int_equal(load(w, "c"), -ENOENT);
	assert_int_equal(load(w, "d"), -ENOENT);
	expect_error(w, "loop", -ELOOP,
		"cannot read /lib/units/loop.service: Too many levels of symbolic links");
}

static void masked_units_are_told(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.service", UNIT("main"));
	make_link(w, "etc/units/a.service", "/dev/null");
	expect_error(w, "a", -ERFKILL, "/etc/units/a.service is masked");
	write_file(w, "lib/units/b.service", UNIT("main"));
	write_file(w, "run/units/b.service", "");
	expect_error(w, "b", -ERFKILL, "/run/units/b.service is masked");
	/* One letter more or less is another file. */
	make_link(w, "lib/units/c.service", "/dev/nul");
	make_link(w, "lib/units/d.service", "/dev/null0");
	assert_int_equal(load(w, "c"), -ENOENT);
	assert_int_equal(load(w, "d"), -ENOENT);
}

static void only_regular_files_are_read(void **state)
{
	struct world *w = *state;

	own_root_make_parents(&w->root, "lib/units/x");
	/* Opened like a file, a FIFO would wait for its other end. */
	assert_int_equal(mkfifoat(w->root.fd, "lib/units/a.service", 0644), 0);
	expect_error(w, "a", -EINVAL, "cannot read /lib/units/a.service: not a regular file");
	own_root_make_parents(&w->root, "lib/units/b.service/");
	expect_error(w, "b", -EISDIR, "cannot read /lib/units/b.service: Is a directory");
	write_file(w, "lib/units/c.service", UNIT("main"));
	own_root_make_parents(&w->root, "lib/units/c.service.d/x");
	assert_int_equal(mkfifoat(w->root.fd, "lib/units/c.service.d/x.conf", 0644), 0);
	expect_error(
		w, "c", -EINVAL, "cannot read /lib/units/c.service.d/x.conf: not a regular file");
}

static void files_are_bounded(void **state)
{
	struct world *w = *state;
	const size_t limit = 1 << 20;
	char *text = malloc(limit + 1);

	assert_non_null(text);
	memset(text, '\n', limit + 1);
	memcpy(text, UNIT("main"), strlen(UNIT("main")));
	write_bytes(w, "lib/units/a.service", text, limit);
	expect(w, "a", "main");
	write_bytes(w, "lib/units/a.service", text, limit + 1);
	expect_error(w, "a", -EFBIG, "cannot read /lib/units/a.service: larger than 1 MiB");
	free(text);
}

static void a_file_in_the_way_of_a_directory(void **state)
{
	struct world *w = *state;

	write_file(w, "etc/units", "not a directory");
	write_file(w, "lib/units/a.service", UNIT("main"));
	write_file(w, "lib/units/a.service.d", "not a directory");
	expect(w, "a", "main");
}

/* AT_FDCWD takes the path as it is; links lead where they lead. */
static void no_root_is_the_root(void **state)
{
	struct world *w = *state;
	char directory[128];
	const char *const here[] = {directory, NULL};

	(void)snprintf(directory, sizeof(directory), "%s/lib/units", w->root.directory);
	write_file(w, "lib/units/a.service", UNIT("main"));
	make_link(w, "lib/units/b.service", "/dev/../dev/null");
	assert_int_equal(unit_load(&w->unit, AT_FDCWD, here, "a", NULL, NULL, &w->error), 0);
	unit_free(w->unit);
	w->unit = NULL;
	assert_int_equal(unit_load(&w->unit, AT_FDCWD, here, "b", NULL, NULL, &w->error), -ERFKILL);
	assert_string_equal(UNIT_PATH[0], "/etc/molt/system");
	assert_string_equal(UNIT_PATH[7], "/lib/systemd/system");
	assert_null(UNIT_PATH[8]);
}

static void a_closed_root_is_an_error(void **state)
{
	struct world *w = *state;

	assert_int_equal(unit_load(&w->unit, -1, path, "a", NULL, NULL, &w->error), -EBADF);
	assert_string_equal(w->error.text, "cannot read /etc/units/a.service: Bad file descriptor");
	assert_int_equal(unit_load(&w->unit, -1, path, "a", NULL, NULL, NULL), -EBADF);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_directory_wins),
		TEST(a_broken_unit_hides_the_next),
		TEST(an_instance_has_a_template),
		TEST(dropins_come_on_top),
		TEST(dropins_are_told_by_file_and_line),
		TEST(masked_dropins_hide_others),
		TEST(instances_have_two_dropin_directories),
		TEST(dropins_are_bounded),
		TEST(links_stay_inside_the_root),
		TEST(masked_units_are_told),
		TEST(only_regular_files_are_read),
		TEST(files_are_bounded),
		TEST(a_file_in_the_way_of_a_directory),
		TEST(no_root_is_the_root),
		TEST(a_closed_root_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
