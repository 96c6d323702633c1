#!/bin/sh
# SPDX-License-Identifier: MIT
# Puts a root file system together and writes it as images: compose.sh BASE OUT SIZE LAYER...
#
#   BASE    a tar of a root
#   OUT     a directory: OUT/root.ext4, and the seeds OUT/var.ext4 and OUT/home.ext4
#   LAYER   directories laid over the root, in order; all of it belongs to root
#
# /var and /home are cut out of the root: they are file systems of their own, as in systems that are
# delivered as images. One script, so that whoever is not root can run all of it under fakeroot.
set -eu

base=$1 out=$2 size=$3
shift 3

tree=$out/tree
mkdir -p "$tree"
tar -C "$tree" -xf "$base"
for layer in "$@"; do
	tar -C "$layer" --owner=0 --group=0 --exclude=.gitkeep -cf - . |
		tar -C "$tree" --keep-directory-symlink --no-overwrite-dir -xf -
done

image() { # NAME SIZE TREE [OPTION...]
	name=$1 bytes=$2 from=$3
	shift 3
	mke2fs -q -t ext4 -L "$name" -d "$from" -E lazy_itable_init=1,root_owner=0:0 "$@" \
		"$out/$name.ext4" "$bytes"
}

image var 256M "$tree/var"
image home 64M "$tree/home"
find "$tree/var" "$tree/home" -mindepth 1 -delete
# No journal: nothing is ever written to it, and a journal would want to be replayed.
image root "$size" "$tree" -O ^has_journal
rm -rf "$tree"
