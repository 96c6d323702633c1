/* SPDX-License-Identifier: MIT */
/* What the registers of a task go through, wherever it was stopped; tasks of another kind. */
#include "tests/unit/inject_child.h"

#include <sys/auxv.h>
#include <sys/rseq.h>

#include "kernel/inject_target.h"
#if defined(__x86_64__)
#include "tests/unit/inject_asm_x86_64.h"
#elif defined(__aarch64__)
#include "tests/unit/inject_asm_aarch64.h"
#endif

typedef int (*spin_main)(atomic_long *counter, atomic_int *stop);

int inject_test_spin(atomic_long *counter, atomic_int *stop);
void inject_test_rseq(void *area, atomic_long *counter, atomic_int *aborts, atomic_int *stop);

/* Stops it at many places; returns at how many `is_interesting` was true. */
static int disturb(struct child *c, int times, bool (*is_interesting)(struct inject_target *t))
{
	int interesting = 0;

	for (int i = 0; i < times; i++) {
		long before = c->page->counter;

		wait_until(c->page->counter != before || c->page->done);
		assert_false(c->page->done);
		struct inject_target *t = seize_and_stop(c->pid);
		before = c->page->counter;
		interesting += is_interesting && is_interesting(t);
		assert_int_equal(run_in(t, SYS_getpid, 1, 2, 3), c->pid);
		assert_int_equal(c->page->counter, before);
		release(t);
	}
	c->page->go = 1;
	assert_int_equal(child_wait(c), 0);
	assert_int_equal(c->page->failures, 0);
	child_end(c);
	return interesting;
}

static void spin(struct page *p)
{
	p->ready = 1;
	p->failures = inject_test_spin(&p->counter, &p->go);
}

static void test_registers_survive(void **state)
{
	struct child c = child_new(spin);

	(void)state;
	(void)disturb(&c, 200, NULL);
}

static void restart_sequence(struct page *p)
{
	p->ready = 1;
	if (__rseq_size == 0)
		return;
	inject_test_rseq((char *)__builtin_thread_pointer() + __rseq_offset, &p->counter,
		&p->handled, &p->go);
}

static void test_rseq_section_is_aborted(void **state)
{
	struct child c = child_new(restart_sequence);

	(void)state;
	wait_until(c.page->counter > 0 || c.page->done);
	if (c.page->done) {
		child_end(&c);
		skip();
	}
	for (int i = 0; i < 50; i++) {
		struct inject_target *t = seize_and_stop(c.pid);
		int aborts = c.page->handled;
		long counter = c.page->counter;

		assert_int_equal(run_in(t, SYS_getpid, 0, 0, 0), c.pid);
		release(t);
		wait_until(c.page->counter > counter + 1000);
		assert_true(c.page->handled > aborts);
	}
	c.page->go = 1;
	assert_int_equal(child_wait(&c), 0);
	child_end(&c);
}

static void exec_32_bit(struct page *p)
{
	struct {
		Elf32_Ehdr header;
		Elf32_Phdr segment;
		unsigned char code[16];
	} image = {
		.header =
			{
				.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB,
					EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = MACHINE_32_BIT,
				.e_version = EV_CURRENT,
				.e_entry = 0x400000 + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
				.e_phoff = sizeof(Elf32_Ehdr),
				.e_flags = FLAGS_32_BIT,
				.e_ehsize = sizeof(Elf32_Ehdr),
				.e_phentsize = sizeof(Elf32_Phdr),
				.e_phnum = 1,
			},
		.segment =
			{
				.p_type = PT_LOAD,
				.p_vaddr = 0x400000,
				.p_filesz = sizeof(image),
				.p_memsz = sizeof(image),
				.p_flags = PF_R | PF_X,
				.p_align = 65536,
			},
		.code = CODE_32_BIT,
	};
	char *none[] = {NULL};
	int fd = memfd_create("32 bit", MFD_CLOEXEC);

	if (write(fd, &image, sizeof(image)) == (ssize_t)sizeof(image))
		(void)fexecve(fd, none, none);
	p->failures = errno;
}

static void test_32_bit_target_is_refused(void **state)
{
	struct child c = child_new(exec_32_bit);
	struct error e;

	(void)state;
	wait_until(syscall_of(c.pid) == 29 || c.page->done);
	if (c.page->done) {
		child_end(&c);
		skip();
	}
	assert_int_equal(inject_check(c.pid, &e), -ENOTSUP);
	struct inject_target *t = seize(c.pid);
	assert_int_equal(inject_wait_stopped(t, deadline_in(PATIENCE), &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "32-bit"));
	release(t);
	wait_asleep_in(c.pid, 29);
	child_end(&c);
}

#if defined(__aarch64__)
#include <asm/ptrace.h>

#define HWCAP_SVE_BIT (1UL << 22)
#define HWCAP2_SME_BIT (1UL << 23)
#define HWCAP2_BTI_BIT (1UL << 17)

static void spin_sve(struct page *p)
{
	p->ready = 1;
	p->failures = inject_test_spin_sve(&p->counter, &p->go);
}

static bool has_vectors(struct inject_target *t)
{
	return t->vectors != NULL;
}

static void test_sve_survives(void **state)
{
	(void)state;
	if (!(getauxval(AT_HWCAP) & HWCAP_SVE_BIT))
		skip();
	struct child c = child_new(spin_sve);
	assert_true(disturb(&c, 100, has_vectors) > 0);
}

static void spin_sme(struct page *p)
{
	p->ready = 1;
	p->failures = inject_test_spin_sme(&p->counter, &p->go);
}

static void test_streaming_mode_survives(void **state)
{
	(void)state;
	if (!(getauxval(AT_HWCAP2) & HWCAP2_SME_BIT))
		skip();
	struct child c = child_new(spin_sme);
	assert_true(disturb(&c, 100, has_vectors) > 0);
}

static void branch(struct page *p)
{
	p->ready = 1;
	p->failures = inject_test_branches(&p->counter, &p->go);
}

/*
 * A vDSO may be guarded by BTI or not, as its kernel was built: where an instruction that is no
 * landing pad faults after an indirect branch. Here is a page that is.
 */
static void *guarded_page(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(page, MAP_FAILED);
	memcpy(page, inject_arch_instruction, inject_arch_instruction_size);
	__builtin___clear_cache(page, (char *)page + inject_arch_instruction_size);
	assert_int_equal(mprotect(page, size, PROT_READ | PROT_EXEC | PROT_BTI), 0);
	return page;
}

static void *guarded; /* at the same address in the children */

static bool has_just_branched(struct inject_target *t)
{
	t->instruction = (uintptr_t)guarded;
	return (t->saved.user.pstate & PSR_BTYPE_MASK) != 0;
}

static void test_stopped_at_indirect_branch(void **state)
{
	(void)state;
	if (!(getauxval(AT_HWCAP2) & HWCAP2_BTI_BIT))
		skip();
	guarded = guarded_page();
	struct child c = child_new(branch);
	assert_true(disturb(&c, 100, has_just_branched) > 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers_survive),
		cmocka_unit_test(test_rseq_section_is_aborted),
		cmocka_unit_test(test_32_bit_target_is_refused),
#if defined(__aarch64__)
		cmocka_unit_test(test_sve_survives),
		cmocka_unit_test(test_streaming_mode_survives),
		cmocka_unit_test(test_stopped_at_indirect_branch),
#endif
	};

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, block_sigchld, clean_up);
}
