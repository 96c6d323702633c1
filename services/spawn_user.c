/* SPDX-License-Identifier: MIT */
#include "services/spawn_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/util.h"

static int find_user(const char *user, struct identity *id, struct error *e)
{
	uint64_t number;
	struct passwd *pw;

	errno = 0;
	pw = parse_u64(user, &number) && number < (uid_t)-1 ? getpwuid((uid_t)number)
							    : getpwnam(user);
	/* setresuid(2) takes the highest number for "no change": root would stay root. */
	if (!pw && (!parse_u64(user, &number) || number >= (uid_t)-1))
		return error_say(e, ENOENT, "User=%s: no such user", user);
	id->switch_user = true;
	id->uid = pw ? pw->pw_uid : (uid_t)number;
	id->gid = pw ? pw->pw_gid : (gid_t)number;
	if (pw) {
		(void)snprintf(id->name, sizeof(id->name), "%s", pw->pw_name);
		(void)snprintf(id->home, sizeof(id->home), "%s", pw->pw_dir);
		(void)snprintf(id->shell, sizeof(id->shell), "%s", pw->pw_shell);
	}
	return 0;
}

static int find_group(const char *key, const char *group, gid_t *ret, struct error *e)
{
	uint64_t number;

	if (parse_u64(group, &number) && number < (gid_t)-1) {
		*ret = (gid_t)number;
		return 0;
	}
	struct group *gr = getgrnam(group);
	if (!gr)
		return error_say(e, ENOENT, "%s=%s: no such group", key, group);
	*ret = gr->gr_gid;
	return 0;
}

int user_find(const struct unit *u, struct identity *id, struct error *e)
{
	int r = 0;

	if (u->user)
		r = find_user(u->user, id, e);
	if (r == -ENOENT && u->dynamic_user)
		r = error_say(e, ENOENT,
			"DynamicUser=: there is no user %s, and molt makes none by itself: make one of that name (useradd --system %s), or name another by User=",
			u->user, u->user);
	if (r == 0 && u->group)
		r = find_group("Group", u->group, &id->gid, e);
	return r;
}

/* What setresuid(2) from root takes away is kept as permitted, inheritable and ambient: so the
 * program has it, and what it executes (capabilities(7)). */
static int keep_capabilities(uint64_t ambient)
{
	cap_t all = cap_init();
	int r = all ? 0 : -ENOMEM;

	for (cap_value_t c = 0; r == 0 && c < 64; c++) {
		/* "All but" names some that this kernel has not. */
		if (!(ambient & UINT64_C(1) << c) || !CAP_IS_SUPPORTED(c))
			continue;
		if (cap_set_flag(all, CAP_PERMITTED, 1, &c, CAP_SET) < 0 ||
			cap_set_flag(all, CAP_EFFECTIVE, 1, &c, CAP_SET) < 0 ||
			cap_set_flag(all, CAP_INHERITABLE, 1, &c, CAP_SET) < 0)
			r = -errno;
	}
	if (r == 0 && cap_set_proc(all) < 0)
		r = -errno;
	for (cap_value_t c = 0; r == 0 && c < 64; c++)
		if (ambient & UINT64_C(1) << c && CAP_IS_SUPPORTED(c) &&
			cap_set_ambient(c, CAP_SET) < 0)
			r = -errno;
	(void)cap_free(all);
	return r;
}

/* Those of the user, and SupplementaryGroups=. */
static int set_groups(const struct unit *u, const struct identity *id, struct error *e)
{
	gid_t list[1024];
	int n = 0, r = 0;

	if ((id->name[0] ? initgroups(id->name, id->gid) : setgroups(0, NULL)) < 0 ||
		(n = getgroups(ARRAY_SIZE(list), list)) < 0)
		return error_set(
			e, errno, "cannot set the groups of user %s", u->user ? u->user : "root");
	for (char **group = u->groups; r == 0 && *group; group++) {
		if (n == ARRAY_SIZE(list))
			return error_say(e, -E2BIG, "SupplementaryGroups=: too many");
		r = find_group("SupplementaryGroups", *group, &list[n++], e);
	}
	if (r == 0 && *u->groups && setgroups((size_t)n, list) < 0)
		r = error_set(e, errno, "cannot set SupplementaryGroups=");
	return r;
}

int user_become(const struct unit *u, const struct identity *id, struct error *e)
{
	bool ambient = id->switch_user && id->uid != 0 && u->ambient;

	if (!u->user && !u->group && !*u->groups)
		return 0;
	int r = set_groups(u, id, e);
	if (r < 0)
		return r;
	if (setresgid(id->gid, id->gid, id->gid) < 0)
		return error_set(e, errno, "cannot become group %u", id->gid);
	/* The execve(2) to come clears it again. */
	if (ambient && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_set(e, errno, "cannot keep AmbientCapabilities=");
	if (id->switch_user && setresuid(id->uid, id->uid, id->uid) < 0)
		return error_set(e, errno, "cannot become user %s", u->user);
	r = ambient ? keep_capabilities(u->ambient) : 0;
	return r < 0 ? error_set(e, r, "cannot keep AmbientCapabilities=") : 0;
}

static int open_below(int at, const char *name, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH};
	int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static bool is_roots_alone(int directory)
{
	struct stat st;

	return fstat(directory, &st) == 0 && st.st_uid == 0 && !(st.st_mode & 0022);
}

/*
 * A directory above one of the service's: nobody's own, made where it is missing. A service must
 * not have root make something elsewhere by a link in a directory of its own; a link where only
 * root can put one is somebody's wish. -ELOOP: it is not.
 */
static int step_into(int at, const char *name)
{
	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	int fd = open_below(at, name, O_PATH);
	if (fd != -ELOOP || !is_roots_alone(at))
		return fd;
	fd = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Moves *at, which is open, to what is above the last part of the name; returns that. */
static int walk_to_parent(int *at, char *name, const char **ret_last)
{
	char *slash;

	for (; (slash = strchr(name, '/')); name = slash + 1) {
		*slash = '\0';
		int next = step_into(*at, name);
		if (next < 0)
			return next;
		(void)fd_close(*at);
		*at = next;
	}
	*ret_last = name;
	return 0;
}

/*
 * A symbolic link is left as it is, with what it leads to: whoever put it there sees to that. And a
 * service must not have root change something else by a link in a directory of its own.
 */
static int take_directory(int at, const char *name, mode_t mode, const struct identity *id)
{
	CLEANUP_FD int fd = open_below(at, name, O_RDONLY);

	if (fd < 0)
		return fd == -ELOOP ? 0 : fd;
	if (id->switch_user && fchown(fd, id->uid, id->gid) < 0)
		return -errno;
	/* After chown(2), which takes bits away; whatever the mask of the service is. */
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

static int make_directory(
	const char *base, const char *name, mode_t mode, const struct identity *id, struct error *e)
{
	/* A fresh /var may have nothing in it yet. */
	bool missing = mkdir(base, 0755) < 0 && errno != EEXIST;
	CLEANUP_FD int at = missing ? -1 : open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = at < 0 ? -errno : 0;
	CLEANUP_FREE char *copy = strdup(name);
	const char *last = NULL;

	if (r == 0)
		r = copy ? walk_to_parent(&at, copy, &last) : -ENOMEM;
	if (r == -ELOOP)
		return 0;
	if (r == 0 && mkdirat(at, last, mode) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		return error_set(e, r, "cannot make the directory %s/%s", base, name);
	r = take_directory(at, last, mode, id);
	return r < 0 ? error_set(
			       e, r, "cannot set owner and mode of the directory %s/%s", base, name)
		     : 0;
}

static int make_list(const char *base, const struct unit_directory *d, const struct identity *id,
	struct error *e)
{
	const char *at = d->names ? d->names : "";
	char name[PATH_MAX];
	int r = 0;

	while (r == 0 && *(at += strspn(at, " \t"))) {
		size_t length = strcspn(at, " \t");
		if (length >= sizeof(name))
			return error_set(
				e, ENAMETOOLONG, "cannot make the directory %s/%.64s...", base, at);
		*(char *)mempcpy(name, at, length) = '\0';
		r = make_directory(base, name, d->mode, id, e);
		at += length;
	}
	return r;
}

int user_make_directories(const struct unit *u, const struct identity *id, struct error *e)
{
	static const char *const bases[N_UNIT_DIRECTORIES] = {[DIRECTORY_RUNTIME] = "/run",
		[DIRECTORY_STATE] = "/var/lib",
		[DIRECTORY_CACHE] = "/var/cache",
		[DIRECTORY_LOGS] = "/var/log",
		[DIRECTORY_CONFIGURATION] = "/etc"};
	static const struct identity root = {0};
	mode_t before = umask(0022); /* that of the service is for what it makes itself */
	int r = 0;

	for (int i = 0; r == 0 && i < N_UNIT_DIRECTORIES; i++) {
		bool of_image = i == DIRECTORY_CONFIGURATION;
		r = make_list(bases[i], &u->directories[i], of_image ? &root : id, e);
		/* A read-only image has it, or the service does without: it says so itself. */
		if (r == -EROFS && of_image)
			r = 0;
	}
	(void)umask(before);
	return r;
}

static int own_socket(const char *path, const struct socket_options *o, struct error *e)
{
	struct identity id = {0};
	int r = 0;

	if (o->user)
		r = find_user(o->user, &id, e);
	/* systemd.socket(5): without SocketGroup= it is the user's. */
	if (r == 0 && o->group)
		r = find_group("SocketGroup", o->group, &id.gid, e);
	if (r < 0)
		return error_prefix(e, "socket %s", path);
	if (lchown(path, id.uid, id.gid) < 0 && errno != ENOENT)
		return error_set(e, errno, "cannot give the socket %s its owner", path);
	return 0;
}

int user_own_sockets(const struct unit *u, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < u->n_listen; i++) {
		const struct listen_config *l = &u->listen[i];
		const struct socket_options *o = unit_socket_options(u, l);
		if (l->family == LISTEN_UNIX && l->host[0] == '/' && (o->user || o->group))
			r = own_socket(l->host, o, e);
	}
	return r;
}
