/* SPDX-License-Identifier: MIT */
/* [Socket], and the .socket units that belong to a service. */
#include "tests/unit/own_root.h"

#include <sys/capability.h>

#include "conf/unit.h"
#include "tests/unit/heard.h"

static const char *const path[] = {"/etc/units", "/lib/units", NULL};

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

static void write_file(struct world *w, const char *name, const char *text)
{
	own_root_write(&w->root, name, text, strlen(text));
}

/* Loads a.service, of which `text` is the first part, and expects these warnings. */
static struct unit *load(struct world *w, const char *text, const char *warnings)
{
	char whole[1024];

	(void)snprintf(whole, sizeof(whole), "%s\n[Service]\nExecStart=/bin/a\n", text);
	write_file(w, "lib/units/a.service", whole);
	unit_free(w->unit);
	w->unit = NULL;
	w->warnings.text[0] = '\0';
	if (unit_load(&w->unit, w->root.fd, path, "a", hear, &w->warnings, &w->error) != 0)
		fail_msg("%s", w->error.text);
	assert_string_equal(w->warnings.text, warnings);
	return w->unit;
}

static void taken_where_they_are_named(void **state)
{
	static const char *const names[] = {"[Unit]\nRequires=a.socket", "[Unit]\nWants=a.socket",
		"[Service]\nSockets=a.socket"};
	struct world *w = *state;

	write_file(w, "lib/units/a.socket",
		"[Unit]\nConflicts=b.service\n[Socket]\nListenStream=/run/%p/x\nSocketMode=0660\n"
		"SocketUser=u\nSocketGroup=g\nPassCredentials=yes\nSymlinks=/dev/x /dev/y\n"
		"[Install]\nWantedBy=sockets.target\n");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct unit *u = load(w, names[i], "");
		assert_int_equal(u->n_listen, 1);
		assert_string_equal(u->listen[0].host, "/run/a/x");
		const struct socket_options *o = unit_socket_options(u, &u->listen[0]);
		assert_string_equal(o->fd_name, "a.socket");
		assert_int_equal(o->mode, 0660);
		assert_string_equal(o->user, "u");
		assert_string_equal(o->group, "g");
		assert_true(o->pass_credentials);
		assert_int_equal(strings_count(o->links), 2);
	}
	assert_int_equal(load(w, "[Unit]\nAfter=a.socket", "")->n_listen, 0);
}

/* As systemd-journald.service has it; and rsyslog.service, which has syslog.socket in Requires=. */
static void only_those_that_are_for_it(void **state)
{
	struct world *w = *state;

	write_file(
		w, "lib/units/a.socket", "[Socket]\nListenDatagram=/run/a\nListenStream=/run/b\n");
	write_file(w, "lib/units/other.socket",
		"[Socket]\nListenSequentialPacket=@c\nService=a.service\nFileDescriptorName=c\n");
	write_file(w, "lib/units/syslog.socket", "[Socket]\nListenDatagram=/run/d\n");
	write_file(w, "lib/units/each.socket",
		"[Socket]\nListenStream=/run/e\nService=a.service\nAccept=yes\n");
	struct unit *u = load(w,
		"[Unit]\nRequires=a.socket syslog.socket each.socket none.socket\n"
		"[Service]\nSockets=a.socket other.socket",
		"");

	assert_int_equal(u->n_listen, 3);
	assert_string_equal(u->listen[0].address, "datagram:/run/a");
	assert_string_equal(u->listen[1].address, "/run/b");
	assert_string_equal(u->listen[2].address, "seqpacket:@c");
	assert_int_equal(u->listen[0].type, LISTEN_DATAGRAM);
	assert_string_equal(unit_socket_options(u, &u->listen[1])->fd_name, "a.socket");
	assert_string_equal(unit_socket_options(u, &u->listen[2])->fd_name, "c");
	assert_ptr_equal(unit_find_listen(u, "seqpacket:@c"), &u->listen[2]);
	assert_null(unit_find_listen(u, "@c"));
}

/* Where the service itself has some, an administrator may have said so in a drop-in. */
static void its_own_are_all_there_are(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.socket", "[Socket]\nListenStream=/run/a\n");
	write_file(w, "etc/units/a.service.d/x.conf", "[Socket]\nListenStream=/run/own\n");
	struct unit *u = load(w, "[Unit]\nRequires=a.socket", "");
	assert_int_equal(u->n_listen, 1);
	assert_string_equal(u->listen[0].address, "/run/own");
	assert_int_equal(unit_socket_options(u, &u->listen[0])->mode, 0666);
	assert_null(unit_socket_options(u, &u->listen[0])->fd_name);
}

static void dropins_and_masks(void **state)
{
	struct world *w = *state;

	write_file(w, "lib/units/a.socket", "[Socket]\nListenStream=/run/a\n");
	write_file(w, "etc/units/a.socket.d/x.conf", "[Socket]\nListenStream=\nListenStream=81\n");
	struct unit *u = load(w, "[Unit]\nRequires=a.socket", "");
	assert_int_equal(u->n_listen, 1);
	assert_int_equal(u->listen[0].port, 81);
	write_file(w, "etc/units/a.socket", "");
	assert_int_equal(load(w, "[Unit]\nRequires=a.socket", "")->n_listen, 0);
}

/* Whoever counts descriptors must not get others in their places: all or none. */
static void what_is_not_supported_leaves_them_out(void **state)
{
	struct world *w = *state;

	write_file(
		w, "lib/units/a.socket", "[Socket]\nListenStream=/run/a\nListenNetlink=route 1\n");
	assert_int_equal(load(w, "[Unit]\nRequires=a.socket",
				 "/lib/units/a.socket:3: ListenNetlink= is not supported: the "
				 "service gets none of these sockets\n")
				 ->n_listen,
		0);
	write_file(w, "lib/units/a.socket", "[Socket]\nListenStream=vsock:1:2\n");
	assert_int_equal(load(w, "[Unit]\nRequires=a.socket",
				 "/lib/units/a.socket:2: ListenStream=vsock:1:2: not a numeric "
				 "address: vsock:1\n")
				 ->n_listen,
		0);
}

static void directories_add_up(void **state)
{
	struct world *w = *state;
	struct unit *u = load(w,
		"[Service]\nRuntimeDirectory=a b/c\nRuntimeDirectory=d\nRuntimeDirectoryMode=0700\n"
		"LogsDirectory=x\nLogsDirectory=\nCacheDirectory=%p\nConfigurationDirectory=y",
		"");

	assert_string_equal(u->directories[DIRECTORY_RUNTIME].names, "a b/c d");
	assert_int_equal(u->directories[DIRECTORY_RUNTIME].mode, 0700);
	assert_null(u->directories[DIRECTORY_LOGS].names);
	assert_string_equal(u->directories[DIRECTORY_CACHE].names, "a");
	assert_int_equal(u->directories[DIRECTORY_CACHE].mode, 0755);
	assert_string_equal(u->directories[DIRECTORY_CONFIGURATION].names, "y");
}

static void capabilities(void **state)
{
	struct world *w = *state;
	uint64_t two = UINT64_C(1) << CAP_NET_ADMIN | UINT64_C(1) << CAP_CHOWN;

	assert_true(load(w,
			    "[Service]\nAmbientCapabilities=CAP_NET_ADMIN\n"
			    "AmbientCapabilities=cap_chown",
			    "")
			    ->ambient == two);
	assert_true(load(w,
			    "[Service]\nAmbientCapabilities=CAP_NET_ADMIN CAP_CHOWN CAP_KILL\n"
			    "AmbientCapabilities=~CAP_KILL",
			    "")
			    ->ambient == two);
	assert_true(load(w, "[Service]\nAmbientCapabilities=~CAP_KILL", "")->ambient ==
		    ~(UINT64_C(1) << CAP_KILL));
	assert_true(load(w, "[Service]\nAmbientCapabilities=CAP_KILL\nAmbientCapabilities=", "")
			    ->ambient == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(taken_where_they_are_named),
		TEST(only_those_that_are_for_it),
		TEST(its_own_are_all_there_are),
		TEST(dropins_and_masks),
		TEST(what_is_not_supported_leaves_them_out),
		TEST(directories_add_up),
		TEST(capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
