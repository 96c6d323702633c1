/* SPDX-License-Identifier: MIT */
/* What the kernel prints about maps, marks, rings, queues, credentials and sockets: the parsers, on
 * texts of Linux 6.1 and 6.18, and on themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel/proc_creds.h"
#include "kernel/proc_fdinfo.h"
#include "kernel/proc_lines.h"
#include "kernel/proc_maps.h"
#include "kernel/unix_diag.h"
#include "kernel/util.h"

/* Lines */

static const char *write_file(const char *text, size_t length)
{
	static char path[64];

	strcpy(path, "/tmp/molt-unit-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), length);
	close(fd);
	return path;
}

struct gathered {
	unsigned count;
	size_t longest;
	char last[64];
};

static int gather(char *line, void *userdata)
{
	struct gathered *g = userdata;

	g->count++;
	if (strlen(line) > g->longest)
		g->longest = strlen(line);
	(void)snprintf(g->last, sizeof(g->last), "%s", line);
	return strcmp(line, "stop") == 0 ? 7 : 0;
}

static struct gathered gather_text(const char *text, size_t length, int expected)
{
	struct gathered g = {0};
	const char *path = write_file(text, length);

	assert_int_equal(proc_lines(path, gather, &g), expected);
	assert_int_equal(unlink(path), 0);
	return g;
}

static void test_lines(void **state)
{
	struct gathered g = gather_text("one\ntwo\n\nfour", 13, 0);

	(void)state;
	assert_int_equal(g.count, 4);
	assert_string_equal(g.last, "four");
	g = gather_text("one\nstop\nthree\n", 15, 7);
	assert_int_equal(g.count, 2);
	assert_int_equal(gather_text("", 0, 0).count, 0);
	assert_int_equal(proc_lines("/nowhere", gather, &g), -ENOENT);
}

static void test_a_line_without_end_is_cut(void **state)
{
	size_t length = 10 * PROC_LINE_MAX;
	char *text = malloc(length + 16);

	(void)state;
	memset(text, 'x', length);
	memcpy(text + length, "\nlast\n", 6);
	struct gathered g = gather_text(text, length + 6, 0);
	assert_int_equal(g.count, 2);
	assert_true(g.longest <= 2 * PROC_LINE_MAX);
	assert_string_equal(g.last, "last");
	free(text);
}

static void test_many_lines_of_any_length(void **state)
{
	size_t used = 0;
	char *text = malloc(1 << 20);
	unsigned n = 0;

	(void)state;
	for (; used < (1 << 20) - 3000; n++) {
		memset(text + used, 'y', n % 2999);
		used += n % 2999;
		text[used++] = '\n';
	}
	assert_int_equal(gather_text(text, used, 0).count, n);
	free(text);
}

/* Maps */

static int parse_map(const char *text, struct proc_map *ret)
{
	static char line[512];

	(void)snprintf(line, sizeof(line), "%s", text);
	return proc_map_parse(line, ret);
}

static void test_map_lines(void **state)
{
	struct proc_map m;

	(void)state;
	assert_int_equal(parse_map("7f0a1c000000-7f0a1c021000 r-xp 00002000 fe:0a 1311 "
				   "                 /usr/lib/lib a b.so (deleted)",
				 &m),
		1);
	assert_int_equal(m.start, 0x7f0a1c000000);
	assert_int_equal(m.end, 0x7f0a1c021000);
	assert_int_equal(m.ino, 1311);
	assert_int_equal(m.dev, (uint64_t)0xfe << 32 | 0xa);
	assert_false(m.shared);
	assert_false(m.writable);
	assert_string_equal(m.path, "/usr/lib/lib a b.so (deleted)");
	assert_int_equal(parse_map("00400000-00401000 rw-s 00000000 00:1b 5 /a", &m), 1);
	assert_true(m.shared && m.writable);
	assert_int_equal(parse_map("7ffd0000-7ffd1000 rw-p 00000000 00:00 0     [stack]", &m), 0);
	assert_int_equal(parse_map("7ffd0000-7ffd1000 rw-p 00000000 00:00 0 ", &m), 0);
	assert_int_equal(
		parse_map("7ffd0000-7ffd1000 rw-s 00000000 00:01 9 anon_inode:[io_uring]", &m), 0);
	assert_int_equal(parse_map("", &m), -EBADMSG);
	assert_int_equal(parse_map("7ffd0000-7ffd1000 rw", &m), -EBADMSG);
}

struct wanted_map {
	const char *path;
	unsigned count;
	struct proc_map map;
};

static int want_map(const struct proc_map *m, void *userdata)
{
	struct wanted_map *w = userdata;

	if (strcmp(m->path, w->path) == 0) {
		w->count++;
		w->map = *m;
	}
	return 0;
}

static void test_own_maps(void **state)
{
	char path[] = "/tmp/molt-unit-XXXXXX";
	int fd = mkstemp(path);
	struct wanted_map w = {.path = path};
	void *pages[40];

	(void)state;
	assert_int_equal(ftruncate(fd, 40 * 8192), 0);
	/* Many mappings of one file, not next to each other, are one. */
	for (int i = 0; i < 40; i++)
		pages[i] = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, i * 8192L);
	close(fd);
	if (geteuid() != 0)
		skip(); /* map_files is for root */
	assert_int_equal(proc_maps(getpid(), want_map, &w), 0);
	assert_int_equal(w.count, 1);
	assert_true(w.map.shared && !w.map.writable);
	/* It could make it so at any time. */
	assert_true(w.map.file_writable);
	struct statx st;
	assert_int_equal(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &st), 0);
	assert_int_equal(w.map.mount_id, st.stx_mnt_id);
	for (int i = 0; i < 40; i++)
		munmap(pages[i], 4096);
	assert_int_equal(unlink(path), 0);
}

/* fdinfo */

static int parse(struct fdinfo_reader *r, const char *text, struct fdinfo_entry *ret)
{
	static char line[512];

	(void)snprintf(line, sizeof(line), "%s", text);
	return fdinfo_parse(r, line, ret);
}

static void test_watches(void **state)
{
	struct fdinfo_reader r = {0};
	struct fdinfo_entry m;

	(void)state;
	assert_int_equal(parse(&r,
				 "inotify wd:1 ino:3c51d sdev:fe00000 mask:2 ignored_mask:0 "
				 "fhandle-bytes:8 fhandle-type:1 f_handle:1dc5030000000000 ",
				 &m),
		1);
	assert_int_equal(m.kind, FDINFO_WATCH);
	assert_int_equal(m.ino, 0x3c51d);
	assert_int_equal(m.dev, 0xfe00000);
	assert_int_equal(m.handle_size, 8);
	assert_int_equal(m.handle_type, 1);
	assert_memory_equal(m.handle, "\x1d\xc5\x03\0\0\0\0\0", 8);
	/* A file system without handles. */
	assert_int_equal(parse(&r, "inotify wd:1 ino:5 sdev:1b mask:2 ignored_mask:0 ", &m), 1);
	assert_int_equal(m.handle_size, 0);
	/* Cut short, or too long: the mark is there, its handle is not. */
	assert_int_equal(parse(&r,
				 "inotify wd:1 ino:5 sdev:1b mask:2 ignored_mask:0 "
				 "fhandle-bytes:8 fhandle-type:1 f_handle:1dc5",
				 &m),
		1);
	assert_int_equal(m.handle_size, 0);
	assert_int_equal(parse(&r,
				 "inotify wd:1 ino:5 sdev:1b mask:2 ignored_mask:0 "
				 "fhandle-bytes:ffff fhandle-type:1 f_handle:1dc5",
				 &m),
		1);
	assert_int_equal(m.handle_size, 0);
	assert_int_equal(parse(&r, "inotify nonsense", &m), 0);
}

static void test_marks(void **state)
{
	struct fdinfo_reader r = {0};
	struct fdinfo_entry m;

	(void)state;
	assert_int_equal(parse(&r, "fanotify flags:0 event-flags:8000", &m), 0);
	assert_int_equal(parse(&r,
				 "fanotify ino:3c51d sdev:fe00000 mflags:0 mask:20 ignored_mask:0 "
				 "fhandle-bytes:8 fhandle-type:1 f_handle:1dc5030000000000",
				 &m),
		1);
	assert_int_equal(m.kind, FDINFO_MARK_INODE);
	assert_int_equal(parse(&r, "fanotify sdev:fe00000 mflags:0 mask:20 ignored_mask:0", &m), 1);
	assert_int_equal(m.kind, FDINFO_MARK_FILESYSTEM);
	assert_int_equal(m.dev, 0xfe00000);
	assert_int_equal(parse(&r, "fanotify mnt_id:1b mflags:0 mask:20 ignored_mask:0", &m), 1);
	assert_int_equal(m.kind, FDINFO_MARK_MOUNT);
	assert_int_equal(m.mount_id, 0x1b);
}

static void test_rings_and_queues(void **state)
{
	static const char *const LINES[] = {"pos:\t0", "SqThread:\t-1", "UserFiles:\t3",
		"    0: /usr/lib", "    1: <none>", "    2: socket:[3989739]", "UserBufs:\t0",
		"    0: /no/file"};
	struct fdinfo_reader r = {0};
	struct fdinfo_entry m;
	char found[128] = "";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(LINES); i++) {
		if (parse(&r, LINES[i], &m) != 1)
			continue;
		assert_int_equal(m.kind, FDINFO_RING_FILE);
		strcat(strcat(found, m.path), " ");
	}
	assert_string_equal(found, "/usr/lib socket:[3989739] ");
	assert_int_equal(parse(&r, "scm_fds: 0", &m), 0);
	assert_int_equal(parse(&r, "scm_fds: 12", &m), 1);
	assert_int_equal(m.kind, FDINFO_QUEUED);
	assert_int_equal(m.count, 12);
}

static int count_entries(const struct fdinfo_entry *m, void *userdata)
{
	unsigned *counts = userdata;

	counts[m->kind] += m->kind == FDINFO_QUEUED ? m->count : 1;
	return 0;
}

static void test_own_watches_and_queues(void **state)
{
	unsigned counts[8] = {0};
	int inotify = inotify_init1(IN_CLOEXEC), ends[2], sent = STDIN_FILENO;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {"x", 1};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	(void)state;
	assert_true(inotify_add_watch(inotify, "/", IN_DELETE) > 0);
	assert_true(inotify_add_watch(inotify, "/usr", IN_DELETE) > 0);
	assert_int_equal(fdinfo_entries(getpid(), inotify, count_entries, counts), 0);
	assert_int_equal(counts[FDINFO_WATCH], 2);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	memcpy(CMSG_DATA(&control.head), &sent, sizeof(sent));
	assert_int_equal(sendmsg(ends[0], &message, 0), 1);
	assert_int_equal(fdinfo_entries(getpid(), ends[1], count_entries, counts), 0);
	assert_int_equal(counts[FDINFO_QUEUED], 1);
	assert_int_equal(fdinfo_entries(getpid(), 9999, count_entries, counts), -ENOENT);
	close(inotify);
	close(ends[0]);
	close(ends[1]);
}

/* Credentials */

static bool may_search(const struct proc_creds *c, unsigned mode, uid_t uid, gid_t gid)
{
	struct stat st = {.st_mode = S_IFDIR | mode, .st_uid = uid, .st_gid = gid};

	return proc_creds_may_search(c, &st, false);
}

static void test_who_may_search_a_directory(void **state)
{
	struct proc_creds c = {0};
	char lines[4][64] = {"Uid:\t1\t2\t3\t1000", "Gid:\t1\t2\t3\t1001", "Groups:\t7 8 2000 ",
		"CapEff:\t0000000000000000"};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		proc_creds_parse(&c, lines[i]);
	assert_int_equal(c.fsuid, 1000);
	assert_int_equal(c.fsgid, 1001);
	assert_int_equal(c.n_groups, 3);
	assert_true(may_search(&c, 0711, 0, 0));
	assert_false(may_search(&c, 0710, 0, 0));
	assert_true(may_search(&c, 0710, 0, 2000));
	assert_true(may_search(&c, 0710, 0, 1001));
	assert_true(may_search(&c, 0100, 1000, 0));
	/* The most special class decides, even where another would allow. */
	assert_false(may_search(&c, 0611, 1000, 0));
	assert_false(may_search(&c, 0701, 0, 8));
	/* An ACL may allow what the mode does not. */
	struct stat st = {.st_mode = S_IFDIR | 0700};
	assert_true(proc_creds_may_search(&c, &st, true));
	c.more_groups = true;
	assert_true(may_search(&c, 0710, 0, 5));
	assert_false(may_search(&c, 0700, 0, 5));
}

static void test_capabilities(void **state)
{
	struct proc_creds c = {.fsuid = 1000, .fsgid = 1000};

	(void)state;
	assert_false(proc_creds_may_chroot(&c));
	c.capabilities = 1ULL << CAP_SYS_CHROOT;
	assert_true(proc_creds_may_chroot(&c));
	assert_false(may_search(&c, 0700, 0, 0));
	c.capabilities = 1ULL << CAP_DAC_READ_SEARCH;
	assert_true(may_search(&c, 0700, 0, 0));
	/* Of a user name space of its own: not over our files. */
	c.own_user_ns = true;
	assert_false(may_search(&c, 0700, 0, 0));
}

static void test_own_credentials(void **state)
{
	struct proc_creds c;

	(void)state;
	assert_int_equal(proc_creds_read(getpid(), &c), 0);
	assert_int_equal(c.fsuid, geteuid());
	assert_false(c.own_user_ns);
	assert_true(proc_creds_read(0x7ffffffe, &c) < 0);
}

/* Sockets */

struct answer {
	struct nlmsghdr header;
	struct unix_diag_msg message;
	char attributes[256];
};

static void add_attribute(struct answer *a, unsigned short type, const void *data, size_t size)
{
	struct rtattr *at = (struct rtattr *)((char *)a + NLMSG_ALIGN(a->header.nlmsg_len));

	at->rta_type = type;
	at->rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(RTA_DATA(at), data, size);
	a->header.nlmsg_len = NLMSG_ALIGN(a->header.nlmsg_len) + (unsigned)RTA_ALIGN(at->rta_len);
}

static void test_socket_answers(void **state)
{
	struct unix_diag_vfs file = {.udiag_vfs_ino = 77, .udiag_vfs_dev = 0xfe00000};
	struct answer a = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct unix_diag_msg)),
				   .nlmsg_type = SOCK_DIAG_BY_FAMILY},
		.message = {
			.udiag_type = SOCK_STREAM, .udiag_state = TCP_LISTEN, .udiag_ino = 4711}};
	struct unix_bound s;

	(void)state;
	/* An abstract name lies on no file system. */
	add_attribute(&a, UNIX_DIAG_NAME, "\0name", 5);
	assert_int_equal(unix_diag_parse(&a.header, &s), 0);
	a.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct unix_diag_msg));
	add_attribute(&a, UNIX_DIAG_NAME, "/srv/socket", 11);
	add_attribute(&a, UNIX_DIAG_VFS, &file, sizeof(file));
	assert_int_equal(unix_diag_parse(&a.header, &s), 1);
	assert_string_equal(s.name, "/srv/socket");
	assert_int_equal(s.inode, 4711);
	assert_int_equal(s.ino, 77);
	assert_int_equal(s.dev, 0xfe00000);
	assert_true(s.reachable);
	a.message.udiag_state = TCP_ESTABLISHED;
	assert_int_equal(unix_diag_parse(&a.header, &s), 1);
	assert_false(s.reachable);
	a.message.udiag_type = SOCK_DGRAM;
	assert_int_equal(unix_diag_parse(&a.header, &s), 1);
	assert_true(s.reachable);
	a.header.nlmsg_len = NLMSG_LENGTH(4);
	assert_int_equal(unix_diag_parse(&a.header, &s), -EBADMSG);
}

struct wanted_socket {
	const char *name;
	unsigned count, reachable;
	struct unix_bound socket;
};

static int want_socket(const struct unix_bound *s, void *userdata)
{
	struct wanted_socket *w = userdata;

	if (strcmp(s->name, w->name) == 0) {
		w->count++;
		w->reachable += s->reachable;
		w->socket = *s;
	}
	return 0;
}

static void test_own_sockets(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char directory[] = "/tmp/molt-unit-XXXXXX";
	struct wanted_socket w = {.name = address.sun_path};
	struct stat st;
	uint32_t dev;

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	int served = accept(listener, NULL, NULL);
	assert_true(served >= 0);
	CLEANUP_FD int diag = unix_diag_open();
	assert_true(diag >= 0);
	assert_int_equal(unix_diag_bound(diag, want_socket, &w), 0);
	assert_int_equal(w.count, 2);
	assert_int_equal(w.reachable, 1);
	assert_int_equal(stat(address.sun_path, &st), 0);
	assert_int_equal(w.socket.ino, (uint32_t)st.st_ino);
	CLEANUP_FD int place = open(directory, O_PATH | O_CLOEXEC);
	assert_int_equal(kernel_dev(place, &dev), 0);
	assert_int_equal(w.socket.dev, dev);
	close(listener);
	close(client);
	close(served);
	assert_int_equal(unlink(address.sun_path), 0);
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_a_line_without_end_is_cut),
		cmocka_unit_test(test_many_lines_of_any_length),
		cmocka_unit_test(test_map_lines),
		cmocka_unit_test(test_own_maps),
		cmocka_unit_test(test_watches),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_rings_and_queues),
		cmocka_unit_test(test_own_watches_and_queues),
		cmocka_unit_test(test_who_may_search_a_directory),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_own_credentials),
		cmocka_unit_test(test_socket_answers),
		cmocka_unit_test(test_own_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
