/* SPDX-License-Identifier: MIT */
#include "kernel/modules.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <limits.h>
#include <linux/module.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernel/util.h"

#define TEXT_MAX (16 * 1024 * 1024)
#define NAME_MAX_BYTES 64 /* MODULE_NAME_LEN of the kernel is 56 */

/* Read once: modules.dep, modules.alias and modules.builtin. NULL: not there. */
static char *dependencies, *aliases, *builtin;
static int directory = -1; /* /lib/modules/RELEASE */

static char *read_whole(const char *name)
{
	CLEANUP_FD int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > TEXT_MAX)
		return NULL;
	char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return NULL;
	size_t used = 0;
	ssize_t n;
	while ((n = read(fd, text + used, (size_t)st.st_size - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	return text;
}

static int open_directory(struct error *e)
{
	struct utsname u;
	char path[128];

	if (directory >= 0)
		return 0;
	(void)uname(&u);
	(void)snprintf(path, sizeof(path), "/lib/modules/%s", u.release);
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return error_set(e, errno, "cannot open %s", path);
	dependencies = read_whole("modules.dep");
	aliases = read_whole("modules.alias");
	builtin = read_whole("modules.builtin");
	return 0;
}

/* "kernel/fs/ext4/ext4.ko" of a line "kernel/fs/ext4/ext4.ko: ..." is the module ext4; a dash and
 * an underscore are the same in a module's name. */
static void module_name(const char *path, size_t length, char name[NAME_MAX_BYTES])
{
	const char *begin = path + length;
	size_t n = 0;

	while (begin > path && begin[-1] != '/')
		begin--;
	for (; begin < path + length && *begin != '.' && n < NAME_MAX_BYTES - 1; begin++)
		name[n++] = *begin == '-' ? '_' : *begin;
	name[n] = '\0';
}

/* The line of `text` whose first path is that of the module; NULL: there is none. */
static const char *find_line(const char *text, const char *name)
{
	char wanted[NAME_MAX_BYTES], here[NAME_MAX_BYTES];

	module_name(name, strlen(name), wanted);
	for (const char *line = text; line && *line;) {
		module_name(line, strcspn(line, ":\n"), here);
		if (strcmp(here, wanted) == 0)
			return line;
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return NULL;
}

/* "nvme.poll_queues=2" of the command line is "poll_queues=2" for nvme. */
static void find_parameters(const char *name, char *buf, size_t size)
{
	char line[4096], key[NAME_MAX_BYTES], *state = NULL;
	size_t used = 0;

	buf[0] = '\0';
	if (file_read(AT_FDCWD, "/proc/cmdline", line, sizeof(line)) <= 0)
		return;
	for (char *word = strtok_r(line, " \t\n", &state); word;
		word = strtok_r(NULL, " \t\n", &state)) {
		size_t dot = strcspn(word, ".=");
		if (word[dot] != '.')
			continue;
		module_name(word, dot, key);
		if (strcmp(key, name) != 0)
			continue;
		int n = snprintf(buf + used, size - used, "%s%s", used ? " " : "", word + dot + 1);
		used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
	}
}

bool modules_is_blacklisted(const char *line, const char *module)
{
	static const char KEY[] = "modprobe.blacklist=";
	char wanted[NAME_MAX_BYTES], here[NAME_MAX_BYTES];

	module_name(module, strlen(module), wanted);
	for (; (line = strstr(line, KEY)); line += strlen(KEY)) {
		for (const char *name = line + strlen(KEY); *name && !isspace(*name);) {
			size_t n = strcspn(name, ", \t\n");
			module_name(name, n, here);
			if (strcmp(here, wanted) == 0)
				return true;
			name += n + (name[n] == ',');
		}
	}
	return false;
}

static bool is_blacklisted(const char *module)
{
	char line[4096];

	return file_read(AT_FDCWD, "/proc/cmdline", line, sizeof(line)) > 0 &&
	       modules_is_blacklisted(line, module);
}

static bool is_compressed(const char *path)
{
	return ends_with(path, ".xz") || ends_with(path, ".zst") || ends_with(path, ".gz");
}

static int insert(const char *path, size_t length, struct error *e)
{
	char file[PATH_MAX], parameters[1024], name[NAME_MAX_BYTES];

	(void)snprintf(file, sizeof(file), "%.*s", (int)length, path);
	module_name(path, length, name);
	find_parameters(name, parameters, sizeof(parameters));
	CLEANUP_FD int fd = openat(directory, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, errno, "cannot open the module %s", file);
	/* Linux 5.17 can do it by itself, where it was built so; ours are not compressed. */
	unsigned flags = is_compressed(file) ? MODULE_INIT_COMPRESSED_FILE : 0;
	if (syscall(SYS_finit_module, fd, parameters, flags) == 0 || errno == EEXIST)
		return 0;
	if (flags && (errno == EOPNOTSUPP || errno == EINVAL))
		return error_set(e, errno,
			"cannot load the module %s: this kernel unpacks none of that kind by itself (CONFIG_MODULE_DECOMPRESS); molt-initramfs(8) puts them in unpacked",
			file);
	return error_set(e, errno, "cannot load the module %s", file);
}

/* What it depends on is named behind it, in the opposite order. */
static int load_line(const char *line, struct error *e)
{
	size_t length = strcspn(line, "\n"), own = strcspn(line, ":");
	const char *end = line + length;

	while (end > line + own + 1) {
		const char *begin = end;
		while (begin > line + own + 1 && begin[-1] != ' ')
			begin--;
		int r = end > begin ? insert(begin, (size_t)(end - begin), e) : 0;
		if (r < 0)
			return r;
		end = begin > line + own + 1 ? begin - 1 : line + own + 1;
	}
	return insert(line, own, e);
}

/* Lines "alias PATTERN MODULE". Most patterns are told apart by their first letters. */
static int load_by_alias(const char *name, struct error *e)
{
	char pattern[512], module[NAME_MAX_BYTES];
	int result = -ENOENT, width = (int)strcspn(name, ":") + 1;

	for (const char *line = aliases; line && *line;) {
		if (starts_with(line, "alias ") &&
			(strncmp(line + 6, name, (size_t)width - 1) == 0) &&
			sscanf(line, "alias %511s %63s", pattern, module) == 2 &&
			fnmatch(pattern, name, 0) == 0 && !is_blacklisted(module)) {
			const char *found = find_line(dependencies, module);
			int r = found ? load_line(found, e) : -ENOENT;
			result = result == 0 ? 0 : r;
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return result;
}

int modules_load(const char *name, struct error *e)
{
	int r = open_directory(e);

	if (r < 0)
		return r;
	const char *line = find_line(dependencies, name);
	if (line)
		return load_line(line, e);
	r = load_by_alias(name, e);
	if (r == -ENOENT && find_line(builtin, name))
		return 0;
	return r == -ENOENT ? error_say(e, ENOENT, "there is no module %s here", name) : r;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char text[512];
	struct error e;

	(void)st;
	if (type != FTW_F || strcmp(path + ftw->base, "modalias") != 0 ||
		file_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	if (text[0])
		(void)modules_load(text, &e);
	return 0;
}

void modules_load_for_devices(void)
{
	struct error e;

	if (open_directory(&e) == 0)
		(void)nftw("/sys/devices", visit, 16, FTW_PHYS);
}
