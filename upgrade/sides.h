/* SPDX-License-Identifier: MIT */
/*
 * The two roots of a transaction: the one that is "/", and the one beside it in the vault. Swapping
 * them is the same in both directions.
 */
#ifndef MOLT_UPGRADE_SIDES_H
#define MOLT_UPGRADE_SIDES_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/record.h"
#include "conf/system.h"
#include "kernel/error.h"
#include "upgrade/tries.h"

/* One root and what it is called. */
struct side {
	unsigned generation; /* 0: there is none */
	uint64_t mount_id;
	int root; /* O_PATH, owned; -1: it is "/" */
};

struct sides {
	struct side current; /* the root that is "/" */
	struct side former; /* what was there when another took its place: to be let go */
	struct side other; /* the one in the vault: while the transaction is open, and for a while
			      after its commit */
};

/* Only for reading, outside of sides.c. */
extern struct sides sides;

/* The generation that runs is the first. `tree` is borrowed. 0 or negative errno with text. */
int sides_init(int tree, struct error *e);

struct swap_request {
	const struct system_conf *conf; /* its deadlines */
	const char *leave; /* a mount that stays on the old root (pivot.h); NULL: none */
	struct tries *tries; /* of which this is the next row */
	unsigned patience; /* how many times longer than conf says the blackout may take */
	bool force; /* writers to the old root do not forbid it */
	/* The sides have changed: what goes on from here is to be written down, before anything
	 * else (blackout.h). */
	void (*swapped)(void);
	void (*prepared)(void); /* the same, of what was made ready; only to a new root */
};

/*
 * Freezes everything and makes the detached mount `to.root` "/"; the root that was goes to the
 * vault and becomes sides.other, in place of one that was attached there still. On success to.root
 * is consumed. 0, or negative errno with text and
 * everything as before: -EBUSY somebody was in the way, at each try of the row; worth another
 * one after tries_pause().
 */
int sides_swap_to_new(struct side to, const struct swap_request *q, struct error *e);
/* There will be no other try with the new root, which was to be that generation. */
void sides_forget_new(unsigned generation);
/* The same with sides.other, which must be there: the way back. */
int sides_swap_back(const struct swap_request *q, struct error *e);

/* Lets go of what has lost its place; also after an exec. */
void sides_let_go_of_former(void);
/* Unmounts the root in the vault and goes on watching who holds it (generations.h). */
void sides_let_go_of_other(void);

/* Which of the two a mount is the root of; 0: none. */
unsigned sides_generation_of(uint64_t mount_id);

void sides_save(struct record_writer *w); /* fields of the upgrade's record */
int sides_load(const struct record *r, struct error *e);
void sides_each_fd(int (*visit)(int fd));

#endif
