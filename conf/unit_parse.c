/* SPDX-License-Identifier: MIT */
/* The values of single keys: text to number. Pure functions. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "conf/number.h"
#include "conf/unit_internal.h"
#include "conf/words.h"

/* A finite span stays below this, so that "now" can be added to it. */
#define SPAN_MAX ((uint64_t)INT64_MAX)

struct span_unit {
	const char *name;
	uint64_t usec;
};

#define USEC_PER_SEC UINT64_C(1000000)

/* systemd.time(7). "M" is a month, "m" a minute. */
static const struct span_unit span_units[] = {
	{"", USEC_PER_SEC},
	{"s", USEC_PER_SEC},
	{"sec", USEC_PER_SEC},
	{"second", USEC_PER_SEC},
	{"seconds", USEC_PER_SEC},
	{"ms", 1000},
	{"msec", 1000},
	{"us", 1},
	{"usec", 1},
	{"\xC2\xB5s", 1},
	{"\xCE\xBCs", 1},
	{"m", UINT64_C(60) * USEC_PER_SEC},
	{"min", UINT64_C(60) * USEC_PER_SEC},
	{"minute", UINT64_C(60) * USEC_PER_SEC},
	{"minutes", UINT64_C(60) * USEC_PER_SEC},
	{"h", UINT64_C(3600) * USEC_PER_SEC},
	{"hr", UINT64_C(3600) * USEC_PER_SEC},
	{"hour", UINT64_C(3600) * USEC_PER_SEC},
	{"hours", UINT64_C(3600) * USEC_PER_SEC},
	{"d", UINT64_C(86400) * USEC_PER_SEC},
	{"day", UINT64_C(86400) * USEC_PER_SEC},
	{"days", UINT64_C(86400) * USEC_PER_SEC},
	{"w", UINT64_C(604800) * USEC_PER_SEC},
	{"week", UINT64_C(604800) * USEC_PER_SEC},
	{"weeks", UINT64_C(604800) * USEC_PER_SEC},
	{"M", UINT64_C(2629800) * USEC_PER_SEC},
	{"month", UINT64_C(2629800) * USEC_PER_SEC},
	{"months", UINT64_C(2629800) * USEC_PER_SEC},
	{"y", UINT64_C(31557600) * USEC_PER_SEC},
	{"year", UINT64_C(31557600) * USEC_PER_SEC},
	{"years", UINT64_C(31557600) * USEC_PER_SEC},
};

static const struct span_unit *find_span_unit(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(span_units) / sizeof(span_units[0]); i++) {
		const struct span_unit *unit = &span_units[i];
		if (strlen(unit->name) == length && memcmp(unit->name, name, length) == 0)
			return unit;
	}
	return NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_white_space(const char *s)
{
	while (is_white_space(*s))
		s++;
	return s;
}

/* ".25" of a unit, in microseconds; what is finer is dropped. */
static uint64_t read_fraction(const char **cursor, uint64_t scale)
{
	uint64_t usec = 0;
	const char *s = *cursor;

	for (; is_digit(*s); s++) {
		scale /= 10;
		usec += (uint64_t)(*s - '0') * scale;
	}
	*cursor = s;
	return usec;
}

/* The unit's name after the number at `s`. It has to be known before a fraction is read. */
static const struct span_unit *unit_after_number(const char *s, const char **ret_end)
{
	s += strspn(s, "0123456789");
	if (*s == '.')
		s += 1 + strspn(s + 1, "0123456789");
	s = skip_white_space(s);
	size_t length = 0;
	while (s[length] && !is_digit(s[length]) && !is_white_space(s[length]))
		length++;
	*ret_end = s + length;
	return find_span_unit(s, length);
}

/* One "5min". Returns 0 or -EINVAL. */
static int read_span_part(const char **cursor, uint64_t *total)
{
	const char *s = *cursor, *end;
	const struct span_unit *unit = unit_after_number(s, &end);
	uint64_t count = 0, usec;

	if (!unit || !(is_digit(s[0]) || (s[0] == '.' && is_digit(s[1]))))
		return -EINVAL;
	for (; is_digit(*s); s++) {
		if (__builtin_mul_overflow(count, 10, &count) ||
			__builtin_add_overflow(count, (uint64_t)(*s - '0'), &count))
			return -EINVAL;
	}
	if (__builtin_mul_overflow(count, unit->usec, &usec))
		return -EINVAL;
	if (*s == '.') {
		s++;
		if (__builtin_add_overflow(usec, read_fraction(&s, unit->usec), &usec))
			return -EINVAL;
	}
	if (__builtin_add_overflow(*total, usec, total) || *total > SPAN_MAX)
		return -EINVAL;
	*cursor = skip_white_space(end);
	return 0;
}

int unit_parse_span(const char *text, uint64_t *ret_usec)
{
	const char *s = skip_white_space(text);
	uint64_t total = 0;

	if (strcmp(s, "infinity") == 0) {
		*ret_usec = UNIT_USEC_INFINITY;
		return 0;
	}
	do {
		int r = read_span_part(&s, &total);
		if (r < 0)
			return r;
	} while (*s != '\0');
	*ret_usec = total;
	return 0;
}

/* glibc keeps the first realtime signals for itself, so SIGRTMIN is where ours begin. */
static bool signal_is_usable(int64_t n)
{
	return (n > 0 && n < NSIG && sigabbrev_np((int)n)) || (n >= SIGRTMIN && n <= SIGRTMAX);
}

static int signal_by_name(const char *name)
{
	for (int n = 1; n < NSIG; n++) {
		const char *known = sigabbrev_np(n);
		if (known && strcmp(known, name) == 0)
			return n;
	}
	return -EINVAL;
}

/* "RTMIN", "RTMIN+3", "RTMAX-2". */
static int realtime_signal(const char *name)
{
	bool from_min = strncmp(name, "RTMIN", 5) == 0;
	int64_t offset = 0;

	if (!from_min && strncmp(name, "RTMAX", 5) != 0)
		return -EINVAL;
	if (name[5] != '\0') {
		if (name[5] != (from_min ? '+' : '-') || number_parse(name + 6, &offset) < 0)
			return -EINVAL;
		if (offset < 0 || offset > SIGRTMAX - SIGRTMIN)
			return -EINVAL;
	}
	return from_min ? SIGRTMIN + (int)offset : SIGRTMAX - (int)offset;
}

int unit_parse_signal(const char *text, int *ret_signal)
{
	int64_t number;

	if (number_parse(text, &number) == 0) {
		if (!signal_is_usable(number))
			return -EINVAL;
		*ret_signal = (int)number;
		return 0;
	}

	const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
	int n = signal_by_name(name);
	if (n < 0)
		n = realtime_signal(name);
	if (n < 0)
		return n;
	*ret_signal = n;
	return 0;
}

int unit_parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"1", "yes", "y", "true", "t", "on"};
	static const char *const no[] = {"0", "no", "n", "false", "f", "off"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		bool is_yes = strcasecmp(text, yes[i]) == 0;
		if (is_yes || strcasecmp(text, no[i]) == 0) {
			*ret = is_yes;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_port(const char *text, uint16_t *ret)
{
	int64_t port;

	if (number_parse(text, &port) < 0 || port < 1 || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static int parse_unix(const char *text, struct listen_config *l, struct error *e)
{
	/* An abstract name needs no NUL at its end, but a byte for the one at its begin. */
	if (strlen(text) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_say(e, -EINVAL, "too long for a socket's path (at most %zu bytes)",
			sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
	if (text[1] == '\0')
		return error_say(e, -EINVAL, "not a socket's path");
	l->family = LISTEN_UNIX;
	l->host = strdup(text);
	return l->host ? 0 : -ENOMEM;
}

/* The host of "HOST:PORT" as inet_pton() wants it: without brackets. NULL: no memory. */
static char *copy_host(const char *text, const char *colon, bool *ret_is_v6)
{
	bool brackets = text[0] == '[' && colon > text + 1 && colon[-1] == ']';

	*ret_is_v6 = brackets;
	return brackets ? strndup(text + 1, (size_t)(colon - text) - 2)
			: strndup(text, (size_t)(colon - text));
}

static int parse_inet(const char *text, struct listen_config *l, struct error *e)
{
	const char *colon = strrchr(text, ':');
	struct in6_addr address; /* large enough for both */
	bool is_v6 = false;

	l->family = LISTEN_INET;
	if (parse_port(colon ? colon + 1 : text, &l->port) < 0)
		return error_say(e, -EINVAL,
			"not PORT, ADDRESS:PORT, [ADDRESS]:PORT, /PATH or @NAME (ports are 1 to "
			"65535)");
	if (!colon)
		return 0;
	l->host = copy_host(text, colon, &is_v6);
	if (!l->host)
		return -ENOMEM;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, l->host, &address) != 1)
		return error_say(e, -EINVAL, "not a numeric address: %.100s", l->host);
	return 0;
}

void listen_config_done(struct listen_config *l)
{
	free(l->address);
	free(l->host);
}

int unit_parse_listen(const char *text, struct listen_config *ret, struct error *e)
{
	struct listen_config l = {.address = strdup(text)};
	int r = !l.address                         ? -ENOMEM
		: text[0] == '/' || text[0] == '@' ? parse_unix(text, &l, e)
						   : parse_inet(text, &l, e);

	if (r < 0) {
		listen_config_done(&l);
		return r == -ENOMEM ? error_say(e, r, "out of memory") : r;
	}
	*ret = l;
	return 0;
}
