/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a kernel command line: what is accepted names a root, and what is not has a text.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/root_options.h"
#include "kernel/modules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct root_options o;
	struct error e = {0};
	char *line = strndup((const char *)data, size);

	CHECK(line);
	int r = root_options_parse(line, &o, &e);
	if (r == 0) {
		CHECK(o.root && *o.root);
		CHECK(!o.root_hash == !o.verity_hash);
		CHECK(!(o.verity_hash && o.writable));
		CHECK(!o.upper == !o.upper_directory && (o.overlay || !o.upper));
	} else {
		CHECK(r == -EINVAL && e.text[0]);
	}
	root_options_free(&o);
	(void)root_options_has(line, "molt.initramfs");
	(void)modules_is_blacklisted(line, "ext4");
	free(line);
	return 0;
}
