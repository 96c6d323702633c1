# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# An image of a tree, which stays as it is: the work is done on a copy.

WORK=''
clean_up() {
	if [ "$WORK" ]; then
		for received in "$WORK"/received/*; do
			if [ -d "$received" ]; then btrfs subvolume delete "$received" >/dev/null 2>&1 || :; fi
		done
		if [ -d "$WORK.subvolume" ]; then btrfs subvolume delete "$WORK.subvolume" >/dev/null 2>&1 || :; fi
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
		*) usage_error "make has no \"$1\"" ;;
		esac
		shift
	done
	[ "$ROOT" ] || usage_error "make wants --root"
	[ "$VERSION" ] || usage_error "make wants --version"
	[ "$OUT" ] || usage_error "make wants --out"
	check_version "$VERSION"
	case ${FORMAT:=${OUT##*.}} in
	squashfs | erofs | ext4 | btrfs) ;;
	*) usage_error "--format is squashfs, erofs, ext4 or btrfs (a subvolume), not $FORMAT" ;;
	esac
	[ "$FORMAT" != btrfs ] || [ ! "$VERITY" ] || usage_error "a subvolume has no dm-verity"
	case $OUT in */*) ;; *) OUT=./$OUT ;; esac
	[ -d "$ROOT" ] || die "there is no directory $ROOT"
	[ -d "${OUT%/*}/" ] || die "there is no directory ${OUT%/*} for the image"
	refuse_existing
	case $(realpath "${OUT%/*}/")/ in
	"$(realpath "$ROOT")"/*)
		[ "$(stat -c %d "$ROOT")" != "$(stat -c %d "${OUT%/*}/")" ] ||
			die "--out $OUT lies in the tree $ROOT: the image would hold itself" ;;
	esac
}

refuse_existing() {
	[ ! -e "$OUT" ] || die "$OUT is there already: an image is never changed"
}

# Beside the image, on its disk. The lock tells that somebody is at work here, however that ends.
begin_work() {
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	WORK=$(mktemp -d "${OUT%/*}/.molt-image.XXXXXX") || die "cannot write to ${OUT%/*}"
	exec 9>"$WORK/lock"
	flock 9 || die "cannot lock $WORK"
}

# The copy of a subvolume becomes the image, which can be renamed only within its directory.
copy_tree() {
	begin_work
	COPY=$WORK/tree
	if [ "$FORMAT" = btrfs ]; then
		COPY=$WORK.subvolume
		btrfs subvolume create "$COPY" >/dev/null || die "cannot make a subvolume in ${OUT%/*}"
	else
		mkdir "$COPY" || die "cannot write to $WORK"
	fi
	# What is mounted below the tree is not of it.
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
	size=$(find "$COPY" -type f -printf '%i %s %k\n' | awk '
		!seen[$1]++ { whole = $2 / 1024; sum += whole > 65536 && $3 < whole ? $3 : whole + 4 }
		END { printf "%.0f", sum }')
	mke2fs -q -t ext4 -d "$COPY" -U "$UUID" -E "hash_seed=$UUID" -m 0 -L root -O ^has_journal "$1" \
		"$((size + size / 4 + $(find "$COPY" -printf x | wc -c) + 8192))k" >/dev/null
}

# Beside the image: the hashes, their root, and a sum of the file.
add_sums() { # FILE
	if [ "$VERITY" ]; then
		veritysetup format --uuid "$UUID" --salt "$(printf '%s' "$VERSION" | sha256sum | cut -d' ' -f1)" \
			"$1" "$1.verity" >"$WORK/said" || die "cannot make the hashes of dm-verity"
		sed -n 's/^Root hash:[[:space:]]*//p' "$WORK/said" >"$1.roothash" || die "cannot write the root hash"
	fi
	(cd "${1%/*}" && sha256sum "${1##*/}") >"$1.sha256" || die "cannot write the sum of the image"
}

# The image last: who finds it finds what belongs to it.
put_in_place() { # FILE
	local suffix
	for suffix in .verity .roothash .sha256 ''; do
		if [ -f "$1$suffix" ]; then flush "$1$suffix"; fi
	done
	refuse_existing
	for suffix in .verity .roothash .sha256 ''; do
		[ ! -f "$1$suffix" ] || mv -f "$1$suffix" "$OUT$suffix" || die "cannot write $OUT$suffix"
	done
	flush "${OUT%/*}/"
}

put_subvolume_in_place() {
	btrfs property set -ts "$COPY" ro true || die "cannot make $COPY read-only"
	btrfs filesystem sync "${OUT%/*}/" >/dev/null || die "cannot write $OUT to its disk"
	refuse_existing
	mv -T "$COPY" "$OUT" || die "cannot write $OUT"
	btrfs filesystem sync "${OUT%/*}/" >/dev/null || die "cannot write $OUT to its disk"
}

verb_make() {
	local file
	parse_make "$@"
	check_tree "$ROOT" "$MODULES" || exit 1
	UUID=$(uuid_of "$VERSION ${SOURCE_DATE_EPOCH:-$(date +%s%N)}")
	copy_tree
	strip_machine "$COPY"
	make_places "$COPY"
	name_tree "$COPY" "$VERSION"
	keep_kernel "$COPY"
	settle_times
	if [ "$FORMAT" = btrfs ]; then
		put_subvolume_in_place
	else
		file=$WORK/${OUT##*/}
		"write_$FORMAT" "$file" || die "cannot write a $FORMAT of $ROOT"
		add_sums "$file"
		put_in_place "$file"
	fi
	echo "$OUT is image $VERSION"
}

check_sum() { # FILE
	local sum
	[ -f "$1.sha256" ] || return 0
	sum=$(sha256sum <"$1" | cut -d' ' -f1)
	[ "$sum" = "$(cut -d' ' -f1 <"$1.sha256")" ] || die "$1 is not as it was made: its sum differs"
}

# A file that has come from elsewhere: a version when it is there whole, and is what it was.
verb_add() {
	local from="$1" suffix name
	name=${from##*/}
	case $name in
	*.squashfs | *.erofs | *.ext4 | *.img) check_version "${name%.*}" ;;
	*) usage_error "\"$name\" is no image: VERSION.squashfs, .erofs, .ext4 or .img (a subvolume: receive)" ;;
	esac
	case $from in */*) ;; *) from=./$from ;; esac
	[ -f "$from" ] || die "there is no file $from"
	read_settings
	[ -d "$STORE" ] || die "there is no image store $STORE (Store= in /etc/molt/image.conf)"
	OUT=$STORE/$name
	[ ! "$(image_path "${name%.*}")" ] || die "image ${name%.*} is there already: an image is never changed"
	begin_work
	for suffix in '' .verity .roothash .sha256; do
		if [ -f "$from$suffix" ]; then
			cp "$from$suffix" "$WORK/$name$suffix" || die "cannot copy $from$suffix to $STORE"
		fi
	done
	check_sum "$WORK/$name"
	put_in_place "$WORK/$name"
	echo "$OUT is image ${name%.*}"
}

# What `btrfs send` sends, from standard input. A snapshot that is read-only is there in one step.
verb_receive() {
	local version
	read_settings
	[ -d "$STORE" ] || die "there is no image store $STORE (Store= in /etc/molt/image.conf)"
	OUT=$STORE/new
	begin_work
	mkdir "$WORK/received" || die "cannot write to $STORE"
	btrfs -q receive "$WORK/received" || die "cannot receive a subvolume into $STORE"
	for received in "$WORK"/received/*; do version=${received##*/}; done
	check_version "$version"
	[ "$(image_version "$received")" = "$version" ] || die "what came as $version is no image of that version"
	[ ! "$(image_path "$version")" ] || die "image $version is there already: an image is never changed"
	btrfs filesystem sync "$STORE" >/dev/null || die "cannot write $version to its disk"
	btrfs subvolume snapshot -r "$received" "$STORE/$version" >/dev/null || die "cannot write $STORE/$version"
	btrfs filesystem sync "$STORE" >/dev/null || die "cannot write $version to its disk"
	echo "$STORE/$version is image $version"
}

verb_verify() {
	local version="$1" path
	check_version "$version"
	read_settings
	path=$(image_path "$version")
	[ "$path" ] || die "there is no image $version in $STORE"
	check_sum "$path"
	if [ -f "$path.roothash" ]; then
		veritysetup verify "$path" "$path.verity" "$(cat "$path.roothash")" || die "$path does not match its root hash"
	fi
	MOLT_OS_RELEASE=/dev/null
	open_image "$version"
	check_tree "$TREE" '' || die "$path is no image to boot"
	[ "$(os_release "$(in_tree "$TREE" /etc/os-release)" IMAGE_VERSION)" = "$version" ] ||
		die "the os-release of $path has another IMAGE_VERSION"
	close_image
	echo "$path is whole"
}

# Files of this machine lie over those of the images (Carry= in init.conf(5)), always; this says where
# an image has something else to offer.
verb_carried() {
	local version="${1:-}" directory file place said
	read_settings
	if [ ! "$version" ]; then version=$(running_version); fi
	check_version "$version"
	directory=$(cat "/etc/molt/init.conf" /etc/molt/init.conf.d/*.conf 2>/dev/null |
		sed -n 's/^[[:space:]]*CarryDirectory[[:space:]]*=[[:space:]]*//p' | tail -n 1)
	directory=${MOLT_CARRY:-${directory:-/var/lib/molt/carry}}
	[ -d "$directory" ] || return 0
	MOLT_OS_RELEASE=/dev/null
	open_image "$version"
	find "$directory" -type f ! -name '.*' | sort | while IFS= read -r file; do
		place=$(in_tree "$TREE" "${file#"$directory"}")
		if [ ! -s "$place" ]; then
			said='of this machine'
		elif cmp -s "$file" "$place"; then
			said='the same'
		else
			said='differs'
		fi
		echo "${file#"$directory"}: $said"
	done
	close_image
}
