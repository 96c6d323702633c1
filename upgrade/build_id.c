/* SPDX-License-Identifier: MIT */
#include "upgrade/build_id.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/util.h"

/* Nobody has more; a file may say anything. */
#define HEADERS_MAX 128
#define NOTES_MAX 4096

static int read_at(int fd, void *buf, size_t size, uint64_t offset)
{
	ssize_t n = pread(fd, buf, size, (off_t)offset);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -ENOEXEC;
}

/* Calls `visit` for each program header of that type until it returns other than -ENODATA. */
static int each_header(int fd, uint32_t type,
	int (*visit)(int fd, const Elf64_Phdr *header, void *userdata), void *userdata)
{
	Elf64_Ehdr file;
	Elf64_Phdr header;
	int r = read_at(fd, &file, sizeof(file), 0);

	if (r == 0 && (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 ||
			      file.e_ident[EI_CLASS] != ELFCLASS64 ||
			      file.e_phentsize != sizeof(header) || file.e_phnum > HEADERS_MAX))
		r = -ENOEXEC;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < file.e_phnum; i++) {
		r = read_at(fd, &header, sizeof(header), file.e_phoff + i * sizeof(header));
		if (r < 0)
			return r;
		r = header.p_type == type ? visit(fd, &header, userdata) : -ENODATA;
		if (r != -ENODATA)
			return r;
	}
	return -ENODATA;
}

static size_t padded(size_t n)
{
	return (n + 3) & ~(size_t)3;
}

static int find_in_notes(const char *notes, size_t size, char *ret)
{
	for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
		Elf64_Nhdr note;
		memcpy(&note, notes + at, sizeof(note));
		size_t name = at + sizeof(note);
		if (note.n_namesz > NOTES_MAX || note.n_descsz > NOTES_MAX)
			return -ENODATA;
		size_t text = name + padded(note.n_namesz);
		if (text + note.n_descsz > size)
			return -ENODATA;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
			memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz > 0 &&
			note.n_descsz <= (BUILD_ID_MAX - 1) / 2) {
			for (size_t i = 0; i < note.n_descsz; i++)
				(void)snprintf(
					ret + 2 * i, 3, "%02x", (unsigned char)notes[text + i]);
			return 0;
		}
		at = text + padded(note.n_descsz);
	}
	return -ENODATA;
}

static int visit_notes(int fd, const Elf64_Phdr *header, void *userdata)
{
	char notes[NOTES_MAX];
	size_t size = header->p_filesz < sizeof(notes) ? header->p_filesz : sizeof(notes);
	int r = read_at(fd, notes, size, header->p_offset);

	return r < 0 ? r : find_in_notes(notes, size, userdata);
}

int build_id_read(int fd, char ret[BUILD_ID_MAX])
{
	char id[BUILD_ID_MAX];
	int r = each_header(fd, PT_NOTE, visit_notes, id);

	if (r == 0)
		memcpy(ret, id, strlen(id) + 1);
	return r;
}

struct interpreter {
	char *text;
	size_t size;
};

static int visit_interpreter(int fd, const Elf64_Phdr *header, void *userdata)
{
	struct interpreter *i = userdata;

	if (header->p_filesz == 0 || header->p_filesz > i->size)
		return -ENOEXEC;
	int r = read_at(fd, i->text, header->p_filesz, header->p_offset);
	if (r < 0)
		return r;
	return i->text[header->p_filesz - 1] == '\0' && i->text[0] == '/' ? 0 : -ENOEXEC;
}

int elf_interpreter_read(int fd, char *ret, size_t size)
{
	struct interpreter i = {ret, size};

	return each_header(fd, PT_INTERP, visit_interpreter, &i);
}
