/* SPDX-License-Identifier: MIT */
/* $VAR and ${VAR} in a command line, at the time of exec. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/environment.h"
#include "conf/unit.h"
#include "conf/words.h"

/* More than execve(2) takes, at 6 MiB, is not worth having: a short line could ask for gigabytes.
 */
#define EXPANDED_MAX ((size_t)6 << 20)

struct expansion {
	char *const *environment;
	char **argv;
	size_t size; /* of argv's words */
};

static int append_word(struct expansion *x, const char *word)
{
	x->size += strlen(word) + 1;
	return x->size > EXPANDED_MAX ? -E2BIG : strings_append(&x->argv, word);
}

/* A piece of a word: literal bytes, or a variable's value. Returns how much of `s` it took. */
static size_t next_piece(
	const char *s, char *const *environment, const char **ret, size_t *ret_length)
{
	const char *close;

	if (s[0] == '$' && s[1] == '$') {
		*ret = s;
		*ret_length = 1;
		return 2;
	}
	if (s[0] == '$' && s[1] == '{' && (close = strchr(s, '}'))) {
		const char *value = environment_get(environment, s + 2, (size_t)(close - s - 2));
		*ret = value ? value : "";
		*ret_length = strlen(*ret);
		return (size_t)(close - s + 1);
	}
	*ret = s;
	*ret_length = s[0] == '$' ? 1 : strcspn(s, "$");
	return *ret_length;
}

static int measure_word(const char *word, char *const *environment, size_t *ret)
{
	size_t total = 0, length;
	const char *piece;

	for (const char *s = word; *s;) {
		s += next_piece(s, environment, &piece, &length);
		total += length;
		if (total > EXPANDED_MAX)
			return -E2BIG;
	}
	*ret = total;
	return 0;
}

/* A word with ${VAR} and $$ in it: it stays one word. */
static int expand_inside(struct expansion *x, const char *word)
{
	size_t total = 0, length, n = 0;
	const char *piece;
	int r = measure_word(word, x->environment, &total);
	if (r < 0)
		return r;

	char *out = malloc(total + 1);
	if (!out)
		return -ENOMEM;
	for (const char *s = word; *s; n += length) {
		s += next_piece(s, x->environment, &piece, &length);
		memcpy(out + n, piece, length);
	}
	out[total] = '\0';
	r = append_word(x, out);
	free(out);
	return r;
}

/* A word that is just $VAR: as many words as the value has, maybe none. */
static int expand_split(struct expansion *x, const char *name)
{
	const char *value = environment_get(x->environment, name, strlen(name));

	while (value) {
		char *word;
		int r = word_next(&value, WORD_LOOSE, &word);
		if (r <= 0)
			return r;
		r = append_word(x, word);
		free(word);
		if (r < 0)
			return r;
	}
	return 0;
}

static int expand_word(struct expansion *x, const char *word)
{
	if (word[0] == '$' && environment_name_is_valid(word + 1, strlen(word + 1)))
		return expand_split(x, word + 1);
	return expand_inside(x, word);
}

int command_expand(const struct command *c, char *const *environment, char ***ret_argv)
{
	struct expansion x = {.environment = environment};

	for (size_t i = 0; c->argv && c->argv[i]; i++) {
		int r = c->no_environment_expansion ? append_word(&x, c->argv[i])
						    : expand_word(&x, c->argv[i]);
		if (r < 0) {
			strings_free(x.argv);
			return r;
		}
	}
	if (!x.argv && !(x.argv = calloc(1, sizeof(*x.argv))))
		return -ENOMEM;
	*ret_argv = x.argv;
	return 0;
}
