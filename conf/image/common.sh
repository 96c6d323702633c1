# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Where things are, and how a file is replaced such that a power cut leaves the old or the new one.

die() {
	echo "molt-image: $*" >&2
	exit 1
}

usage_error() {
	echo "molt-image: $*" >&2
	exit 2
}

# Settings, each with a default. The environment counts for more than the file: tests, initramfs.
read_settings() {
	local file="${MOLT_IMAGE_CONF:-/etc/molt/image.conf}" key value
	SETTING_STORE=/var/lib/molt/images SETTING_BOOT='' SETTING_LOADER=auto SETTING_TRIES=3
	SETTING_CMDLINE=''
	if [ -r "$file" ]; then
		while IFS='=' read -r key value || [ "$key" ]; do
			case $key in
			Store) SETTING_STORE=$value ;;
			Boot) SETTING_BOOT=$value ;;
			Loader) SETTING_LOADER=$value ;;
			Tries) SETTING_TRIES=$value ;;
			CommandLine) SETTING_CMDLINE=$value ;;
			'' | '#'* | ';'* | '['*) ;;
			*) echo "molt-image: $file: $key is not known" >&2 ;;
			esac
		done <"$file"
	fi
	STORE=${MOLT_STORE:-$SETTING_STORE}
	BOOT=${MOLT_BOOT:-$SETTING_BOOT}
	LOADER=$SETTING_LOADER TRIES=$SETTING_TRIES CMDLINE=$SETTING_CMDLINE
	case $TRIES in '' | *[!0-9]* | 0*) die "$file: Tries=$TRIES is no number above 0" ;; esac
}

# A version is part of file names, of the boot loader's too, where + begins a counter.
check_version() {
	case $1 in
	'' | [!A-Za-z0-9]* | *[!A-Za-z0-9._~-]*)
		usage_error "\"$1\" is no version: letters, digits, and . _ ~ - after the first" ;;
	*.squashfs | *.erofs | *.ext4 | *.img)
		usage_error "\"$1\" is no version, it ends like the name of a file" ;;
	esac
}

# The value of a key of an os-release file.
os_release() { # FILE KEY
	sed -n "s/^$2=//p" "$1" 2>/dev/null | tail -n 1 | sed 's/^"\(.*\)"$/\1/; s/^'\''\(.*\)'\''$/\1/'
}

# The image that runs; nothing where it is none of ours.
running_version() {
	os_release "${MOLT_OS_RELEASE:-/etc/os-release}" IMAGE_VERSION
}

# To the disk: a file or a directory, and everything where `sync` takes no name.
flush() {
	sync "$1" 2>/dev/null || sync
}

# To the disk, and of a boot partition to the place where a boot loader looks for it: none of them
# reads the journal of a file system. After syncfs(2) nothing waits in memory any more; the fsync(2)
# after it empties the disk's own cache, which syncfs(2) does not on each file system.
settle() {
	case $1 in
	"${STORE:-/nowhere}"/*) ;;
	*) sync -f "$1" 2>/dev/null || sync ;;
	esac
	flush "$1"
}

# A loss of power may leave half a change on FAT, which has no journal; what the boot loader reads has
# to be whole even then. So a file that is replaced or removed is held open meanwhile (descriptor 8),
# for its clusters to be given back only when no directory on the disk names it. And after a
# rename the directory is flushed before the file: first the old name goes, then the new one leads
# to the data. Both at once on the disk, a crash between, and the next writer to one name
# would write to the other.
hold() { # FILE
	if [ -f "$1" ]; then exec 8<"$1"; else exec 8</dev/null; fi
}

let_go() {
	exec 8<&-
}

# Replaces a file by what is on standard input, as one step. As part of a pipeline it cannot end the
# program: whoever calls it does.
replace() { # FILE
	local new="${1%/*}/.${1##*/}.molt-new"
	discard "$new"
	if ! { cat >"$new" && settle "$new"; }; then
		rm -f "$new"
		die "cannot write $new"
	fi
	put "$new" "$1"
}

# Gives a file, which is on the disk already, the name of another, which is replaced.
put() { # FILE NAME
	hold "$2"
	mv -f "$1" "$2" || die "cannot replace $2"
	flush "${2%/*}"
	settle "$2"
	let_go
}

# Removes a file if there is one.
discard() { # FILE
	[ -f "$1" ] || return 0
	hold "$1"
	rm -f "$1" || die "cannot remove $1"
	flush "${1%/*}"
	let_go
}

# One at a time; the lock goes with the process, however that ends. A busybox may have no flock: in an
# initramfs nobody else is there, and PID 1 runs one hook at a time.
lock_store() {
	[ -d "$STORE" ] || die "there is no image store $STORE (Store= in /etc/molt/image.conf)"
	[ -w "$STORE" ] || die "cannot write to the image store $STORE: is it mounted read-only?"
	exec 9>"$STORE/.lock" || die "cannot lock $STORE"
	if command -v flock >/dev/null; then flock 9 || die "cannot lock $STORE"; fi
}
