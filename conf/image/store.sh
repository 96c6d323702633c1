# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# The store: one subvolume, directory or file for each image, and what is done with them.

image_path() { # VERSION
	local path
	for path in "$STORE/$1" "$STORE/$1.squashfs" "$STORE/$1.erofs" "$STORE/$1.ext4" "$STORE/$1.img"; do
		if [ -d "$path" ] || [ -f "$path" ]; then echo "$path" && return; fi
	done
}

stored_versions() {
	local path name
	for path in "$STORE"/*; do
		name=${path##*/}
		case $name in
		*.squashfs | *.erofs | *.ext4 | *.img) echo "${name%.*}" ;;
		*) if [ -d "$path" ]; then echo "$name"; fi ;;
		esac
	done
}

# Calls a function with the root of an image: the one that runs is at /.
with_root() { # VERSION FUNCTION ARGUMENT...
	local version="$1" path at status=0
	shift
	if [ "$version" = "$(running_version)" ] && [ "${MOLT_OS_RELEASE:-}" = '' ]; then
		"$1" / "$@"
		return
	fi
	path=$(image_path "$version")
	if [ -d "$path" ]; then
		"$1" "$path" "$@"
		return
	fi
	at=$(mktemp -d /tmp/molt-image.XXXXXX)
	mount -o ro "$path" "$at" || { rmdir "$at" && die "cannot mount $path"; }
	("$1" "$at" "$@") || status=$?
	umount "$at" || umount -l "$at"
	rmdir "$at"
	return "$status"
}

# What the boot loader has counted is as good as if it were written here.
counted_order() {
	local version state left
	if [ "$LOADER" != systemd-boot ]; then
		read_order
		return
	fi
	read_order | while read -r version state; do
		left=$(entry_of "$version")
		if [ "$left" ]; then left=$(entry_left "$left"); fi
		case $state:$left in
		bad:* | *:) ;;
		*) state=$left ;;
		esac
		echo "$version $state"
	done
}

open_store() {
	read_settings
	lock_store
	find_loader
}

# An image that ran when nothing was committed yet is the previous one of the first commit.
note_older() {
	local old file
	[ "${MOLT_OLD_ROOT:-}" ] && [ ! "${MOLT_ROLLBACK:-}" ] || return 0
	for file in usr/lib/os-release etc/os-release; do
		old=$(os_release "$MOLT_OLD_ROOT/$file" IMAGE_VERSION)
		if [ "$old" ]; then break; fi
	done
	if [ "$old" ] && [ "$old" != "$1" ] && [ ! "$(order_state "$old")" ] && [ "$(image_path "$old")" ]; then
		echo "$old good"
	fi
}

set_loader_at() { # ROOT FUNCTION VERSION STATE
	loader_set "$3" "$1" "$4"
}

# STORE/boot first: with a boot loader the default is what that has, and its file flips last. What a
# rollback was from is barred when the way back is on the disk.
verb_default() {
	local version="${1:-}" state order
	check_version "$version"
	open_store
	[ "$(image_path "$version")" ] || die "there is no image $version in $STORE"
	state=$(order_state "$version")
	case $state in good) ;; *) state=$TRIES ;; esac
	if [ "$(choice)" = "$version" ]; then
		state=$(order_state "$version")
		order=$(read_order)
	elif [ "${MOLT_ROLLBACK:-}" ]; then
		order=$(order_back_to "$version" "$state")
	else
		order=$(echo "$version $state" && { counted_order | grep -v "^$version " || :; } && note_older "$version")
	fi
	write_order "$order"
	if [ "$LOADER" != molt ]; then
		with_root "$version" set_loader_at "$version" "$state"
		bar_the_bad "$version"
	fi
	echo "the boot default is $version"
}

# Only systemd-boot looks further than its default.
bar_the_bad() { # VERSION
	local version state
	[ "$LOADER" = systemd-boot ] || return 0
	read_order | while read -r version state; do
		if [ "$state" = bad ] && [ "$version" != "$1" ]; then systemd_state "$version" 0; fi
	done
}

verb_good() {
	local version order
	open_store
	version=$(running_version)
	[ "$version" ] && [ "$(order_state "$version")" ] || return 0
	order=$(counted_order | while read -r v state; do
		case $v:$state in
		"$version":*) state=good ;;
		*:0) state=bad ;;
		esac
		echo "$v $state"
	done)
	if [ "$LOADER" = systemd-boot ]; then systemd_state "$version" good; fi
	write_order "$order"
	# The last try had put the previous one in its place.
	if [ "$LOADER" = extlinux ] && [ "$(choice)" = "$version" ] && extlinux_has "$version"; then
		extlinux_set "$version" /
	fi
	echo "this boot of $version is good"
}

# The last try already has the previous image as the default: it is a power cut away.
verb_count() {
	local version state next
	open_store
	version=$(running_version)
	[ "$version" ] && [ "$LOADER" = extlinux ] || return 0
	state=$(order_state "$version")
	case $state in '' | good | bad | 0) return 0 ;; esac
	write_order "$(order_with_state "$version" $((state - 1)))"
	next=$(choice)
	if [ "$next" != "$version" ] && extlinux_has "$next"; then extlinux_set "$next" /; fi
	echo "boot of $version: $((state - 1)) more tries"
}

verb_choose() {
	local version state path
	open_store
	version=$(choice)
	[ "$version" ] || die "$STORE/boot names no image"
	path=$(image_path "$version")
	[ "$path" ] || die "there is no image $version in $STORE"
	state=$(order_state "$version")
	case $state in
	good | bad | 0) ;;
	*) write_order "$(order_with_state "$version" $((state - 1)))" ;;
	esac
	echo "$path"
}

verb_list() {
	local running default previous version order note
	read_settings
	[ -d "$STORE" ] || die "there is no image store $STORE (Store= in /etc/molt/image.conf)"
	find_loader
	running=$(running_version)
	order=$(counted_order)
	default=$(loader_default)
	previous=$(echo "$order" | nth_bootable 2)
	stored_versions | while read -r version; do
		note=''
		if [ "$version" = "$running" ]; then note="$note running"; fi
		if [ "$version" = "$default" ]; then note="$note default"; fi
		if [ "$version" = "$previous" ]; then note="$note previous"; fi
		state=$(echo "$order" | sed -n "s/^$(echo "$version" | sed 's/\./\\./g') //p")
		case $state in
		'' | good) ;;
		bad | 0) note="$note bad" ;;
		*) note="$note $state-tries" ;;
		esac
		echo "$version$note"
	done
}

# The running one, what boots, what is booted if that fails, and what the loader says if that is
# something else.
kept_versions() {
	running_version
	loader_default
	counted_order | nth_bootable 1
	counted_order | nth_bootable 2
}

# A file goes when the last process has let go of it; a subvolume at once.
in_use() { # PATH
	[ -d "$1" ] && command -v initctl >/dev/null && [ -S "${MOLT_CONTROL:-/run/molt/control}" ] || return 1
	! initctl holders --json 2>/dev/null | grep -q '"holders":\[\]'
}

remove_image() { # VERSION PATH
	loader_forget "$1"
	write_order "$(order_without "$1")"
	if [ ! -d "$2" ]; then
		rm -f "$2" "$2.verity" "$2.roothash" "$2.sha256"
	elif ! btrfs subvolume delete "$2" >/dev/null 2>&1; then
		rm -rf --one-file-system "$2"
	fi
}

verb_collect() {
	local version kept path dry=''
	case ${1:-} in
	--dry-run) dry=yes ;;
	'') ;;
	*) usage_error "collect has no $1" ;;
	esac
	open_store
	[ "$(choice)" ] || die "nothing is committed: $STORE/boot names no image"
	[ "$(running_version)" ] || die "which image runs is not known: its os-release has no IMAGE_VERSION"
	kept=$(kept_versions)
	for version in $(stored_versions); do
		if echo "$kept" | grep -qxF "$version"; then continue; fi
		path=$(image_path "$version")
		if in_use "$path"; then
			echo "$version stays: processes may run from it (initctl holders)"
			continue
		fi
		if [ ! "$dry" ]; then remove_image "$version" "$path"; fi
		echo "$version ${dry:+would be }removed"
	done
}
