/* SPDX-License-Identifier: MIT */
/* Build ids and interpreters: of this program, and of files that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "upgrade/build_id.h"

/* An ELF file with one note and one interpreter, to be spoilt. */
struct file {
	Elf64_Ehdr head;
	Elf64_Phdr headers[2];
	Elf64_Nhdr other;
	char other_name[8], other_text[4];
	Elf64_Nhdr note;
	char name[4];
	unsigned char id[20];
	char interpreter[16];
};

static struct file good(void)
{
	struct file f = {.head = {.e_ident = ELFMAG,
				 .e_phoff = offsetof(struct file, headers),
				 .e_phentsize = sizeof(Elf64_Phdr),
				 .e_phnum = 2},
		.headers = {{.p_type = PT_NOTE,
				    .p_offset = offsetof(struct file, other),
				    .p_filesz = offsetof(struct file, interpreter) -
						offsetof(struct file, other)},
			{.p_type = PT_INTERP,
				.p_offset = offsetof(struct file, interpreter),
				.p_filesz = 8}},
		.other = {.n_namesz = 5, .n_descsz = 4, .n_type = 1},
		.other_name = "Linux",
		.note = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
		.name = "GNU",
		.id = {0xab, 0xcd},
		.interpreter = "/lib/ld"};

	f.head.e_ident[EI_CLASS] = ELFCLASS64;
	return f;
}

static int open_file(const struct file *f)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	assert_int_equal(write(fd, f, sizeof(*f)), sizeof(*f));
	return fd;
}

static int id_of(const struct file *f, char *id)
{
	int fd = open_file(f), r = build_id_read(fd, id);

	close(fd);
	return r;
}

static int interpreter_of(const struct file *f, char *path, size_t size)
{
	int fd = open_file(f), r = elf_interpreter_read(fd, path, size);

	close(fd);
	return r;
}

static void test_good_file(void **state)
{
	struct file f = good();
	char id[BUILD_ID_MAX], path[64];

	(void)state;
	assert_int_equal(id_of(&f, id), 0);
	assert_string_equal(id, "abcd000000000000000000000000000000000000");
	assert_int_equal(interpreter_of(&f, path, sizeof(path)), 0);
	assert_string_equal(path, "/lib/ld");
}

static void test_files_that_lie(void **state)
{
	struct file f = good();
	char id[BUILD_ID_MAX] = "untouched", path[64];

	(void)state;
	f.head.e_ident[0] = 'X';
	assert_int_equal(id_of(&f, id), -ENOEXEC);
	f = good();
	f.head.e_phnum = 60000;
	assert_int_equal(id_of(&f, id), -ENOEXEC);
	f = good();
	f.head.e_phoff = UINT64_MAX / 2;
	assert_true(id_of(&f, id) < 0);
	f = good();
	f.note.n_descsz = UINT32_MAX;
	assert_int_equal(id_of(&f, id), -ENODATA);
	f = good();
	f.note.n_descsz = 200;
	assert_int_equal(id_of(&f, id), -ENODATA);
	f = good();
	f.other.n_namesz = UINT32_MAX - 3;
	assert_int_equal(id_of(&f, id), -ENODATA);
	f = good();
	f.headers[0].p_filesz = 1 << 30;
	assert_true(id_of(&f, id) < 0);
	f = good();
	f.headers[0].p_type = PT_LOAD;
	assert_int_equal(id_of(&f, id), -ENODATA);
	assert_string_equal(id, "untouched");
	f = good();
	f.headers[1].p_filesz = 7;
	assert_int_equal(interpreter_of(&f, path, sizeof(path)), -ENOEXEC); /* no NUL */
	f = good();
	assert_int_equal(interpreter_of(&f, path, 7), -ENOEXEC);
	f.headers[1].p_type = PT_LOAD;
	assert_int_equal(interpreter_of(&f, path, sizeof(path)), -ENODATA);
}

static void test_short_file(void **state)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	char id[BUILD_ID_MAX];

	(void)state;
	assert_int_equal(build_id_read(fd, id), -ENOEXEC);
	assert_int_equal(write(fd, ELFMAG, 4), 4);
	assert_int_equal(build_id_read(fd, id), -ENOEXEC);
	close(fd);
	assert_int_equal(build_id_read(fd, id), -EBADF);
}

static void test_a_real_program(void **state)
{
	char path[256];
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(elf_interpreter_read(fd, path, sizeof(path)), 0);
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_file),
		cmocka_unit_test(test_files_that_lie),
		cmocka_unit_test(test_short_file),
		cmocka_unit_test(test_a_real_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
