#!/bin/sh
# SPDX-License-Identifier: MIT
# Buildroot calls this with the target directory before it makes the images of it.
#
# At an upgrade each mount moves onto the directory of its name in the new image, which is read-only: an
# image that lacks one is refused. So each has them all, whatever it mounts itself. And what Buildroot
# makes as a file or a link there is in the way of a mount that has to survive the image.
set -eu
target=$1

for directory in proc sys dev run tmp var home root etc/molt/system; do
	if [ -L "$target/$directory" ]; then
		rm "$target/$directory"
	fi
	mkdir -p "$target/$directory"
done
chmod 1777 "$target/tmp"

# An upgrade is refused by an image without modules for the running kernel if any is loaded: images of
# one kernel release can be swapped for one another, and a new kernel takes a reboot.
if ! ls "$target"/usr/lib/modules/*/modules.dep "$target"/lib/modules/*/modules.dep >/dev/null 2>&1; then
	echo "molt: this image has no kernel modules; all drivers have to be built in" >&2
fi
