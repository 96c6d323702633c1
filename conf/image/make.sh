# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# An image of a tree, which stays as it is: the work is done on a copy.

WORK=''
clean_up() {
	if [ "$WORK" ]; then
		if [ -d "$WORK/subvolume" ]; then btrfs subvolume delete "$WORK/subvolume" >/dev/null 2>&1 || :; fi
		rm -rf "$WORK"
	fi
}

# Always the same for a version and a time, as nothing of an image is to be by chance.
uuid_of() { # TEXT
	printf '%s' "$1" | sha256sum | sed 's/^\(........\)\(....\).\(...\).\(...\)\(............\).*/\1-\2-4\3-8\4-\5/'
}

parse_make() {
	ROOT='' VERSION='' OUT='' FORMAT='' VERITY='' MODULES=yes
	while [ $# -gt 0 ]; do
		case $1 in
		--root=* | --version=* | --out=* | --format=*)
			key=${1%%=*} value=${1#*=} && shift
			set -- "$key" "$value" "$@" ;;
		esac
		case $1 in
		--root | --version | --out | --format)
			[ $# -ge 2 ] || usage_error "$1 wants a value" ;;
		esac
		case $1 in
		--root) ROOT=$2 && shift ;;
		--version) VERSION=$2 && shift ;;
		--out) OUT=$2 && shift ;;
		--format) FORMAT=$2 && shift ;;
		--verity) VERITY=yes ;;
		--no-modules) MODULES='' ;;
		*) usage_error "make has no $1" ;;
		esac
		shift
	done
	[ "$ROOT" ] && [ "$OUT" ] || usage_error "make wants --root, --version and --out"
	check_version "$VERSION"
	case ${FORMAT:=${OUT##*.}} in
	squashfs | erofs | ext4 | btrfs) ;;
	*) usage_error "--format is squashfs, erofs, ext4 or btrfs (a subvolume), not $FORMAT" ;;
	esac
	[ "$FORMAT" != btrfs ] || [ ! "$VERITY" ] || usage_error "a subvolume has no dm-verity"
	case $OUT in */*) ;; *) OUT=./$OUT ;; esac
	[ -d "$ROOT" ] || die "there is no directory $ROOT"
	[ ! -e "$OUT" ] || die "$OUT is there already: an image is never changed"
}

# The copy is on the disk of the image: for a subvolume it becomes the image.
copy_tree() {
	WORK=$(mktemp -d "${OUT%/*}/.molt-image.XXXXXX") || die "cannot write to ${OUT%/*}"
	COPY=$WORK/tree
	if [ "$FORMAT" = btrfs ]; then
		COPY=$WORK/subvolume
		btrfs subvolume create "$COPY" >/dev/null || die "cannot make a subvolume in ${OUT%/*}"
	else
		mkdir "$COPY"
	fi
	# What is mounted below the tree is not of it, and the store may lie there.
	cp -a --one-file-system "$ROOT/." "$COPY" || die "cannot copy $ROOT"
}

# Nothing is younger than SOURCE_DATE_EPOCH, if that is said.
settle_times() {
	[ "${SOURCE_DATE_EPOCH:-}" ] || return 0
	find "$COPY" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

write_squashfs() { # FILE
	mksquashfs "$COPY" "$1" -noappend -no-progress -quiet -xattrs >/dev/null
}

write_erofs() { # FILE
	mkfs.erofs --quiet -U "$UUID" ${SOURCE_DATE_EPOCH:+-T "$SOURCE_DATE_EPOCH"} "$1" "$COPY" >/dev/null
}

write_ext4() { # FILE
	local size
	size=$(du -s --apparent-size -k "$COPY" | cut -f1)
	mke2fs -q -t ext4 -d "$COPY" -U "$UUID" -E "hash_seed=$UUID" -m 0 -L root -O ^has_journal "$1" \
		"$((size + size / 4 + $(find "$COPY" | wc -l) + 8192))k" >/dev/null
}

# Beside the image: the hashes, their root, and a sum of the file.
add_sums() { # FILE
	if [ "$VERITY" ]; then
		veritysetup format --uuid "$UUID" --salt "$(printf '%s' "$VERSION" | sha256sum | cut -d' ' -f1)" \
			"$1" "$1.verity" >"$WORK/said" || die "cannot make the hashes of dm-verity"
		sed -n 's/^Root hash:[[:space:]]*//p' "$WORK/said" >"$1.roothash"
	fi
	(cd "${1%/*}" && sha256sum "${1##*/}") >"$1.sha256"
}

# The image last: who finds it finds what belongs to it.
put_in_place() { # FILE
	local suffix
	for suffix in .verity .roothash .sha256 ''; do
		if [ -f "$1$suffix" ]; then
			flush "$1$suffix"
			mv -f "$1$suffix" "$OUT$suffix" || die "cannot write $OUT$suffix"
		fi
	done
	flush "${OUT%/*}"
}

verb_make() {
	local file
	parse_make "$@"
	check_tree "$ROOT" "$MODULES" || exit 1
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	UUID=$(uuid_of "$VERSION ${SOURCE_DATE_EPOCH:-$(date +%s%N)}")
	copy_tree
	strip_machine "$COPY"
	make_places "$COPY"
	name_tree "$COPY" "$VERSION"
	settle_times
	if [ "$FORMAT" = btrfs ]; then
		mv "$COPY" "$OUT" || die "cannot write $OUT"
		btrfs property set -ts "$OUT" ro true || die "cannot make $OUT read-only"
		btrfs filesystem sync "${OUT%/*}" >/dev/null || die "cannot write $OUT to its disk"
	else
		file=$WORK/${OUT##*/}
		"write_$FORMAT" "$file" || die "cannot write a $FORMAT of $ROOT"
		add_sums "$file"
		put_in_place "$file"
	fi
	echo "$OUT is image $VERSION"
}

verify_root() { # ROOT FUNCTION VERSION
	check_tree "$1" '' || return 1
	[ "$(os_release "$(in_tree "$1" /etc/os-release)" IMAGE_VERSION)" = "$3" ] || {
		echo "molt-image: the os-release of image $3 has another IMAGE_VERSION" >&2
		return 1
	}
}

verb_verify() {
	local version="${1:-}" path sum
	check_version "$version"
	read_settings
	path=$(image_path "$version")
	[ "$path" ] || die "there is no image $version in $STORE"
	if [ -f "$path.sha256" ]; then
		sum=$(sha256sum <"$path" | cut -d' ' -f1)
		[ "$sum" = "$(cut -d' ' -f1 <"$path.sha256")" ] || die "$path is not as it was made: its sum differs"
	fi
	if [ -f "$path.roothash" ]; then
		veritysetup verify "$path" "$path.verity" "$(cat "$path.roothash")" || die "$path does not match its root hash"
	fi
	MOLT_OS_RELEASE=/dev/null with_root "$version" verify_root "$version" || die "$path is no image to boot"
	echo "$path is whole"
}
