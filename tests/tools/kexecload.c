/* SPDX-License-Identifier: MIT */
/*
 * What `kexec --load --kexec-file-syscall` does, for guests that have no kexec(8): has the kernel
 * load another one, to be booted when it is told to. reboot(2): RB_KEXEC. A kernel for arm64 need
 * not know that call (Debian's do not): then it is told by the older one, as kexec(8) does.
 *
 * usage: kexecload KERNEL INITRAMFS COMMAND-LINE
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __aarch64__
#include <endian.h>
#include <inttypes.h>
#include <linux/kexec.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * kexec_load(2) wants to know what is to be where in memory when the old kernel is gone. Here these
 * follow each other from the beginning of the memory on: the kernel, its initramfs, the device tree
 * that tells it of that and of its command line (Documentation/arch/arm64/booting.rst), and a few
 * instructions to begin with, which the older call leaves to its callers: they give it that tree.
 */

/* A kernel has to begin at a multiple of that (and so the others may as well). */
#define STEP ((uint64_t)2 << 20)
#define SEGMENTS 4

struct bytes {
	uint8_t *data;
	size_t size;
};

/* How an Image begins. */
struct image_header {
	uint32_t code[2];
	uint64_t offset; /* from a multiple of STEP; little-endian, as all of these */
	uint64_t size; /* of the memory that it needs, 0 if it does not tell */
	uint64_t flags, reserved[3];
	char magic[4];
	uint32_t pe;
};

/* The device tree: Devicetree Specification, chapter 5. All of it is big-endian. */
struct tree_header {
	uint32_t magic, size, nodes, names, reserved, version, compatible, processor, names_size,
		nodes_size;
};
enum { TREE_MAGIC = 0xd00dfeed };
enum { NODE_BEGINS = 1, NODE_ENDS = 2, PROPERTY = 3, NOTHING = 4, TREE_ENDS = 9 };

/* What the node /chosen is to have, in the order in which their names follow each other here. */
static const char NAMES[] = "bootargs\0linux,initrd-start\0linux,initrd-end";

static void append(struct bytes *to, const void *data, size_t size)
{
	to->data = realloc(to->data, to->size + size);
	if (!to->data)
		err(1, "cannot take %zu bytes", to->size + size);
	memcpy(to->data + to->size, data, size);
	to->size += size;
}

static void append_word(struct bytes *to, uint32_t word)
{
	word = htobe32(word);
	append(to, &word, sizeof(word));
}

static size_t padded(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

static void append_property(struct bytes *to, uint32_t name, const void *value, size_t size)
{
	static const char PADDING[3];

	append_word(to, PROPERTY);
	append_word(to, (uint32_t)size);
	append_word(to, name);
	append(to, value, size);
	append(to, PADDING, padded(size) - size);
}

static struct bytes read_whole(int fd, const char *path)
{
	struct bytes whole = {0};
	char part[65536];
	ssize_t got = 0;

	while ((got = read(fd, part, sizeof(part))) > 0)
		append(&whole, part, (size_t)got);
	if (got < 0)
		err(1, "cannot read %s", path);
	return whole;
}

static uint32_t word_at(const struct bytes *tree, size_t place)
{
	uint32_t word = 0;

	if (place > tree->size || tree->size - place < sizeof(word))
		errx(1, "the device tree ends too early");
	memcpy(&word, tree->data + place, sizeof(word));
	return be32toh(word);
}

static const char *text_at(const struct bytes *tree, size_t place)
{
	if (place >= tree->size || !memchr(tree->data + place, 0, tree->size - place))
		errx(1, "the device tree ends in a name");
	return (const char *)tree->data + place;
}

static bool is_ours(const char *name)
{
	for (const char *n = NAMES; n < NAMES + sizeof(NAMES); n += strlen(n) + 1)
		if (strcmp(n, name) == 0)
			return true;
	return false;
}

/* `name` is where NAMES are among the names of the tree. */
static void append_chosen(struct bytes *to, uint32_t name, uint64_t initramfs, uint64_t size,
	const char *command_line)
{
	const uint64_t ends[] = {htobe64(initramfs), htobe64(initramfs + size)};

	append_property(to, name, command_line, strlen(command_line) + 1);
	for (int i = 0; i < 2; i++) {
		name += (uint32_t)strlen(NAMES + (i == 0 ? 0 : sizeof("bootargs"))) + 1;
		append_property(to, name, &ends[i], sizeof(ends[i]));
	}
}

/* How many bytes a token takes, with what belongs to it. */
static size_t token_size(const struct bytes *tree, size_t place)
{
	switch (word_at(tree, place)) {
	case NODE_BEGINS:
		return 4 + padded(strlen(text_at(tree, place + 4)) + 1);
	case PROPERTY:
		return 12 + padded(word_at(tree, place + 4));
	case NODE_ENDS:
	case NOTHING:
	case TREE_ENDS:
		return 4;
	default:
		errx(1, "the device tree has a token that is not known");
	}
}

/* The nodes of the tree, with another /chosen. */
static struct bytes nodes_with(const struct bytes *tree, const struct tree_header *header,
	uint64_t initramfs, uint64_t size, const char *command_line)
{
	struct bytes nodes = {0};
	size_t place = be32toh(header->nodes), names = be32toh(header->names);
	int depth = 0, found = 0;
	bool chosen = false;

	for (uint32_t token = 0; token != TREE_ENDS;) {
		size_t all = token_size(tree, place);

		token = word_at(tree, place);
		if (all > tree->size - place)
			errx(1, "the device tree ends in a token");
		depth += (token == NODE_BEGINS) - (token == NODE_ENDS);
		if (token == NODE_BEGINS && depth == 2)
			chosen = strcmp(text_at(tree, place + 4), "chosen") == 0;
		if (token != PROPERTY || !chosen || depth != 2 ||
			!is_ours(text_at(tree, names + word_at(tree, place + 8))))
			append(&nodes, tree->data + place, all);
		if (token == NODE_BEGINS && depth == 2 && chosen) {
			append_chosen(
				&nodes, be32toh(header->names_size), initramfs, size, command_line);
			found++;
		}
		place += all;
	}
	if (found != 1)
		errx(1, "the device tree has %d nodes /chosen", found);
	return nodes;
}

/* The tree of the kernel that runs, with that initramfs and command line. */
static struct bytes make_tree(uint64_t initramfs, uint64_t size, const char *command_line)
{
	static const char PATH[] = "/sys/firmware/fdt";
	int fd = open(PATH, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(1, "cannot open %s", PATH);
	struct bytes old = read_whole(fd, PATH), new = {0};
	struct tree_header header;

	(void)close(fd);
	if (old.size < sizeof(header))
		errx(1, "%s is too short", PATH);
	memcpy(&header, old.data, sizeof(header));
	size_t reserved = be32toh(header.reserved), names = be32toh(header.names);
	size_t reserved_size = 16, names_size = be32toh(header.names_size);

	if (be32toh(header.magic) != TREE_MAGIC || names > old.size ||
		names_size > old.size - names)
		errx(1, "%s is no device tree", PATH);
	/* Pairs of an address and a size, the last of which is zero. */
	while (word_at(&old, reserved + reserved_size - 8) ||
		word_at(&old, reserved + reserved_size - 4))
		reserved_size += 16;
	struct bytes nodes = nodes_with(&old, &header, initramfs, size, command_line);

	header.reserved = htobe32(sizeof(header));
	header.nodes = htobe32((uint32_t)(sizeof(header) + reserved_size));
	header.nodes_size = htobe32((uint32_t)nodes.size);
	header.names = htobe32((uint32_t)(sizeof(header) + reserved_size + nodes.size));
	header.names_size = htobe32((uint32_t)(names_size + sizeof(NAMES)));
	header.size = htobe32((uint32_t)(sizeof(header) + reserved_size + nodes.size + names_size +
					 sizeof(NAMES)));
	append(&new, &header, sizeof(header));
	append(&new, old.data + reserved, reserved_size);
	append(&new, nodes.data, nodes.size);
	append(&new, old.data + names, names_size);
	append(&new, NAMES, sizeof(NAMES));
	return new;
}

/* Of the first piece of memory there is, what follows the kernel that runs: over its code
 * Linux 6.18 cannot copy. */
static void find_memory(uint64_t *ret_begin, uint64_t *ret_end)
{
	char line[256];
	uint64_t begin = 0, end = 0;
	FILE *file = fopen("/proc/iomem", "re");

	*ret_end = 0;
	if (!file)
		err(1, "cannot open /proc/iomem");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &begin, &end) != 2)
			continue;
		if (line[0] != ' ' && *ret_end)
			break;
		if (line[0] != ' ' && strstr(line, " : System RAM")) {
			*ret_begin = begin;
			*ret_end = end;
		} else if (*ret_end && strstr(line, " : Kernel ")) {
			*ret_begin = end + 1;
		}
	}
	(void)fclose(file);
	if (!*ret_end)
		errx(1, "/proc/iomem tells of no memory");
}

/* What the kernel is entered with: the tree in x0, nothing in x1 to x3. */
static struct bytes make_entry(uint64_t kernel, uint64_t tree)
{
	const uint32_t code[] = {
		0x580000c0, /* ldr x0, .+24 */
		0xaa1f03e1, /* mov x1, xzr */
		0xaa1f03e2, /* mov x2, xzr */
		0xaa1f03e3, /* mov x3, xzr */
		0x58000084, /* ldr x4, .+16 */
		0xd61f0080, /* br x4 */
	};
	struct bytes entry = {0};

	append(&entry, code, sizeof(code));
	append(&entry, &tree, sizeof(tree));
	append(&entry, &kernel, sizeof(kernel));
	return entry;
}

/* Where the next one may begin. */
static uint64_t after(uint64_t place, uint64_t size)
{
	return (place + size + STEP - 1) & ~(STEP - 1);
}

static struct kexec_segment segment(struct bytes what, uint64_t place, uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	/* NOLINTNEXTLINE(performance-no-int-to-ptr): an address of another kernel's */
	return (struct kexec_segment){
		what.data, what.size, (void *)place, (size + page - 1) & ~(page - 1)};
}

static void load_by_segments(
	const char *name, int kernel_fd, int initramfs_fd, const char *command_line)
{
	struct bytes kernel = read_whole(kernel_fd, name),
		     initramfs = read_whole(initramfs_fd, "the initramfs");
	struct image_header header;
	uint64_t begin = 0, end = 0;

	if (kernel.size < sizeof(header))
		errx(1, "%s is too short for a kernel", name);
	memcpy(&header, kernel.data, sizeof(header));
	if (memcmp(header.magic, "ARM\x64", sizeof(header.magic)) != 0 || header.size < kernel.size)
		errx(1, "%s is not an Image that tells its size", name);
	find_memory(&begin, &end);
	uint64_t kernel_at = after(begin, 0) + header.offset;
	uint64_t initramfs_at = after(kernel_at, header.size),
		 tree_at = after(initramfs_at, initramfs.size);
	struct bytes tree = make_tree(initramfs_at, initramfs.size, command_line);
	uint64_t entry_at = after(tree_at, tree.size);
	struct bytes entry = make_entry(kernel_at, tree_at);
	struct kexec_segment segments[SEGMENTS] = {
		segment(kernel, kernel_at, header.size),
		segment(initramfs, initramfs_at, initramfs.size),
		segment(tree, tree_at, tree.size),
		segment(entry, entry_at, entry.size),
	};

	if (tree.size > STEP || after(entry_at, entry.size) > end)
		errx(1, "%s does not fit into the memory", name);
	if (syscall(SYS_kexec_load, entry_at, (unsigned long)SEGMENTS, segments,
		    (unsigned long)KEXEC_ARCH_DEFAULT) < 0)
		err(1, "cannot load %s in segments", name);
}
#else
static void load_by_segments(
	const char *name, int kernel_fd, int initramfs_fd, const char *command_line)
{
	(void)kernel_fd;
	(void)initramfs_fd;
	(void)command_line;
	errx(1, "cannot load %s: there is no kexec_file_load(2)", name);
}
#endif

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(1, "cannot open %s", path);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "usage: kexecload KERNEL INITRAMFS COMMAND-LINE");
	int kernel = open_file(argv[1]), initramfs = open_file(argv[2]);
	/* The length counts the NUL (kexec_file_load(2)). */
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1, argv[3], 0UL) == 0)
		return 0;
	if (errno != ENOSYS)
		err(1, "cannot load %s", argv[1]);
	load_by_segments(argv[1], kernel, initramfs, argv[3]);
	return 0;
}
