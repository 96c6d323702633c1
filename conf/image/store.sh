# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# The store: one subvolume, directory or file for each image, and what is done with them.

image_path() { # VERSION
	local path
	for path in "$STORE/$1" "$STORE/$1.squashfs" "$STORE/$1.erofs" "$STORE/$1.ext4" "$STORE/$1.img"; do
		if [ -d "$path" ] || [ -f "$path" ]; then echo "$path" && return; fi
	done
}

# A directory is an image if it says so: nothing else that lies here is to be listed, or collected.
stored_versions() {
	local path name
	for path in "$STORE"/*; do
		name=${path##*/}
		case $name in
		*[!A-Za-z0-9._~-]* | [!A-Za-z0-9]*) ;;
		*.squashfs | *.erofs | *.ext4 | *.img) if [ -f "$path" ]; then echo "${name%.*}"; fi ;;
		*) if [ -d "$path" ] && [ "$(image_version "$path")" = "$name" ]; then echo "$name"; fi ;;
		esac
	done
}

# The version that a tree says it is.
image_version() { # TREE
	local file version
	for file in usr/lib/os-release etc/os-release; do
		version=$(os_release "$1/$file" IMAGE_VERSION)
		if [ "$version" ]; then echo "$version" && return; fi
	done
}

# TREE is the root of an image then: of the one that runs it is /. An image file is mounted until
# the end.
TREE='' MOUNTED=''
open_image() { # VERSION
	if [ "$1" = "$(running_version)" ] && [ "${MOLT_OS_RELEASE:-}" = '' ]; then
		TREE=/
		return
	fi
	TREE=$(image_path "$1")
	[ "$TREE" ] || die "there is no image $1 in $STORE"
	if [ -d "$TREE" ]; then return; fi
	trap close_image EXIT
	trap 'exit 1' HUP INT TERM
	MOUNTED=$(mktemp -d /run/molt-image.XXXXXX 2>/dev/null || mktemp -d /tmp/molt-image.XXXXXX) ||
		die "cannot make a directory to mount $TREE on"
	mount -o ro,loop "$TREE" "$MOUNTED" || die "cannot mount $TREE"
	TREE=$MOUNTED
}

close_image() {
	if [ "$MOUNTED" ]; then
		umount "$MOUNTED" 2>/dev/null || umount -l "$MOUNTED" 2>/dev/null || :
		rmdir "$MOUNTED" 2>/dev/null || :
	fi
	MOUNTED=''
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
	local old
	[ "${MOLT_OLD_ROOT:-}" ] && [ ! "${MOLT_ROLLBACK:-}" ] || return 0
	old=$(image_version "$MOLT_OLD_ROOT")
	if [ "$old" ] && [ "$old" != "$1" ] && [ ! "$(order_state "$old")" ] && [ "$(image_path "$old")" ]; then
		echo "$old good"
	fi
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
		open_image "$version"
		loader_set "$version" "$TREE" "$state"
		bar_the_bad "$version"
		close_image
	fi
	echo "the boot default is $version"
}

# What the commit hook does. A system without a store is left alone, and an image without a place in it.
verb_commit() {
	local version
	read_settings
	version=$(running_version)
	[ -d "$STORE" ] && [ "$version" ] || return 0
	check_version "$version"
	if [ "$(image_path "$version")" ]; then
		verb_default "$version"
	else
		echo "image $version is not in $STORE: the boot default stays"
	fi
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
	local version order v state
	read_settings
	[ -d "$STORE" ] || return 0
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

# A machine whose disk is full, or cannot be written to, boots all the same; not counted.
verb_choose() {
	local version state
	read_settings
	if [ -w "$STORE" ]; then open_store; fi
	version=$(choice)
	[ "$version" ] || die "$STORE/boot names no image that is in $STORE"
	state=$(order_state "$version")
	case $state in
	good | bad | 0) ;;
	*) (write_order "$(order_with_state "$version" $((state - 1)))") ||
		echo "molt-image: this boot of $version is not counted" >&2 ;;
	esac
	image_path "$version"
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
# something else; each with the word for it.
kept_versions() {
	running_version | sed 's/$/ runs/'
	loader_default | sed 's/$/ is the boot default/'
	counted_order | nth_bootable 1 | sed 's/$/ is the boot default/'
	counted_order | nth_bootable 2 | sed 's/$/ boots if the default fails/'
}

why_kept() { # VERSION
	kept_versions | awk -v version="$1" '$1 == version { sub(/^[^ ]* /, ""); print; exit }'
}

# A file goes when the last process has let go of it; a subvolume at once.
in_use() { # PATH
	[ -d "$1" ] && command -v initctl >/dev/null && [ -S "${MOLT_CONTROL:-/run/molt/control}" ] || return 1
	! initctl holders --json 2>/dev/null | grep -q '"holders":\[\]'
}

# Bad first, so that nobody goes back to half of it; then out of sight with one rename.
remove_image() { # VERSION PATH
	if [ "$(order_state "$1")" ]; then write_order "$(order_with_state "$1" bad)"; fi
	loader_forget "$1"
	mv "$2" "$STORE/.removed-${2##*/}" || die "cannot remove $2"
	flush "$STORE"
	sweep
	write_order "$(order_without "$1")"
}

# What was to be removed, and what `make` has left half-way.
sweep() {
	local path of suffix
	rm -f "$STORE/.boot.molt-new"
	for path in "$STORE"/.removed-*; do
		of=$STORE/${path##*/.removed-}
		for suffix in .verity .roothash .sha256; do
			if [ -e "$path" ] && [ ! -e "$of" ]; then rm -f "$of$suffix"; fi
		done
		erase "$path"
	done
	for path in "$STORE"/.molt-image.*; do
		if [ -d "$path" ] && ! is_at_work "${path%.subvolume}"; then erase "$path"; fi
	done
}

erase() { # PATH
	local received
	if [ -d "$1" ]; then
		for received in "$1"/received/*; do
			if [ -d "$received" ]; then btrfs subvolume delete "$received" >/dev/null 2>&1 || :; fi
		done
		# Busybox's rm does not know the option.
		btrfs subvolume delete "$1" >/dev/null 2>&1 || rm -rf --one-file-system "$1" 2>/dev/null ||
			rm -rf "$1" || die "cannot remove $1"
	else
		rm -f "$1" || die "cannot remove $1"
	fi
}

# Whoever works in the directory holds its lock.
is_at_work() { # DIRECTORY
	[ -f "$1/lock" ] && ! flock -n "$1/lock" true
}

# Why an image that may go stays, if it does.
remove_or_say() { # VERSION
	local path
	path=$(image_path "$1")
	if in_use "$path"; then
		echo "$1 stays: processes may run from it (initctl holders)"
		return 1
	fi
	if [ ! "$DRY" ]; then remove_image "$1" "$path"; fi
	echo "$1 ${DRY:+would be }removed"
}

open_store_to_remove() {
	open_store
	[ "$(choice)" ] || die "nothing is committed: $STORE/boot names no image"
	[ "$(running_version)" ] || die "which image runs is not known: its os-release has no IMAGE_VERSION"
}

# What was never committed is somebody's next upgrade.
verb_collect() {
	local version
	DRY=''
	case ${1:-} in
	--dry-run) DRY=yes ;;
	'') ;;
	*) usage_error "collect has no $1" ;;
	esac
	open_store_to_remove
	for version in $(stored_versions); do
		if [ ! "$(order_state "$version")" ] || [ "$(why_kept "$version")" ]; then continue; fi
		remove_or_say "$version" || :
	done
	if [ ! "$DRY" ]; then sweep; fi
}

verb_remove() {
	local version why
	DRY=''
	[ $# -gt 0 ] || usage_error "remove wants a version"
	for version in "$@"; do check_version "$version"; done
	open_store_to_remove
	for version in "$@"; do
		stored_versions | grep -qxF "$version" || die "there is no image $version in $STORE"
		why=$(why_kept "$version")
		[ ! "$why" ] || die "image $version stays: it $why"
	done
	for version in "$@"; do remove_or_say "$version" || exit 1; done
}
