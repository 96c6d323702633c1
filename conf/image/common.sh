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
		while IFS='=' read -r key value; do
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

# Replaces a file by what is on standard input, as one step.
replace() { # FILE
	local new="${1%/*}/.${1##*/}.molt-new"
	cat >"$new" || die "cannot write $new"
	flush "$new"
	mv -f "$new" "$1" || die "cannot replace $1"
	flush "${1%/*}"
}

# One at a time; the lock goes with the process, however that ends. A busybox may have no flock: in an
# initramfs nobody else is there, and PID 1 runs one hook at a time.
lock_store() {
	[ -d "$STORE" ] || die "there is no image store $STORE (Store= in /etc/molt/image.conf)"
	exec 9>"$STORE/.lock" || die "cannot lock $STORE"
	if command -v flock >/dev/null; then flock 9 || die "cannot lock $STORE"; fi
}
