# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# The boot loaders' own files. Each flips with one rename: what was there before stays whole until
# then, and is left as it is after.

find_loader() {
	local place file
	EXTLINUX='' ENTRIES=''
	if [ "$LOADER" = molt ]; then return; fi
	for place in ${BOOT:-/boot /efi /boot/efi}; do
		if [ "$LOADER" != extlinux ] && [ -d "$place/loader/entries" ]; then
			LOADER=systemd-boot BOOT=$place ENTRIES=$place/loader/entries
			return
		fi
		for file in "$place/extlinux/extlinux.conf" "$place/syslinux/extlinux.conf" "$place/extlinux.conf"; do
			if [ "$LOADER" != systemd-boot ] && [ -f "$file" ]; then
				LOADER=extlinux BOOT=$place EXTLINUX=$file
				return
			fi
		done
	done
	[ "$LOADER" = auto ] || die "there is no $LOADER in ${BOOT:-/boot, /efi or /boot/efi}"
	LOADER=molt
}

# What a file of the boot partition is called by the boot loader: from the top of the file system.
loader_path() { # FILE
	local top
	top=$(stat -c %m "$BOOT" 2>/dev/null) || top=$BOOT
	top=${top%/}
	case $1 in "$top"/*) echo "${1#"$top"}" ;; *) echo "${1#"$BOOT"}" ;; esac
}

# A copy of a file; in place only when it is whole and on the disk.
copy_file() { # FROM TO
	if cmp -s "$1" "$2"; then return; fi
	if ! { cp "$1" "${2%/*}/.${2##*/}.molt-new" && settle "${2%/*}/.${2##*/}.molt-new"; }; then
		forget_kernel "${2%/*}"
		die "cannot copy $1 to $2"
	fi
	put "${2%/*}/.${2##*/}.molt-new" "$2"
}

# When no entry names it.
forget_kernel() { # DIRECTORY
	local file
	for file in "$1"/* "$1"/.*.molt-new; do discard "$file"; done
	if [ -d "$1" ]; then rmdir "$1" && flush "${1%/*}"; fi
}

# The kernel and the initramfs of an image, beside the boot loader, which reads no image. On the disk
# before anything names them.
copy_kernel() { # ROOT VERSION
	local to="$BOOT/molt-$2" kernel initrd
	kernel=$(find_kernel "$1")
	[ "$kernel" ] || die "image $2 has no entry of $LOADER, and no kernel to make one of"
	initrd=$(find_initrd "$1" "$kernel")
	mkdir -p "$to" || die "cannot write to $BOOT"
	if [ "$initrd" ]; then copy_file "$initrd" "$to/initrd"; else discard "$to/initrd"; fi
	copy_file "$kernel" "$to/linux"
}

command_line() { # VERSION
	[ "$CMDLINE" ] ||
		die "image $1 has no entry of $LOADER, and CommandLine= in /etc/molt/image.conf says not how to make one"
	printf '%s' "$CMDLINE" | sed "s/@VERSION@/$1/g"
}

# extlinux

extlinux_default() {
	sed -n 's/^[[:space:]]*[Dd][Ee][Ff][Aa][Uu][Ll][Tt][[:space:]]\{1,\}molt-\([^[:space:]]*\)[[:space:]]*$/\1/p' "$EXTLINUX" | tail -n 1
}

extlinux_has() { # VERSION
	awk -v want="molt-$1" 'toupper($1) == "LABEL" && $2 == want { found = 1 } END { exit !found }' "$EXTLINUX"
}

# The file with that default, if it is given, and without the entries of the image DROP. From a
# label to the next is one entry.
extlinux_text() { # DEFAULT DROP
	if [ "$1" ] && ! grep -qi '^[[:space:]]*default[[:space:]]' "$EXTLINUX"; then
		echo "DEFAULT molt-$1"
	fi
	awk -v first="${1:+DEFAULT molt-$1}" -v drop="${2:+molt-$2}" '
		toupper($1) == "LABEL" { skip = drop != "" && $2 == drop }
		toupper($1) == "DEFAULT" && first != "" { if (!said++) print first; next }
		!skip { print }' "$EXTLINUX"
}

extlinux_set() { # VERSION ROOT
	local text entry='' line at
	if ! extlinux_has "$1"; then
		line=$(command_line "$1") || exit 1
		copy_kernel "$2" "$1"
		at=$(loader_path "$BOOT/molt-$1")
		entry=$(printf 'LABEL molt-%s\n\tLINUX %s/linux\n' "$1" "$at"
			if [ -f "$BOOT/molt-$1/initrd" ]; then printf '\tINITRD %s/initrd\n' "$at"; fi
			printf '\tAPPEND %s\n' "$line")
	fi
	text=$(extlinux_text "$1" '' && if [ "$entry" ]; then printf '%s\n' "$entry"; fi) || exit 1
	if [ "$text" != "$(cat "$EXTLINUX")" ]; then
		printf '%s\n' "$text" | replace "$EXTLINUX" || exit 1
	fi
}

# systemd-boot: the entries named molt-VERSION[+LEFT[-DONE]].conf. Its default is the first of
# molt-*: those with tries left come first, then those with the least sort-key. So a commit gives
# its entry the least, which is one rename, and what it was before is the next one.

# An empty one is what a loss of power may have left: the boot loader does not see it either.
entry_of() { # VERSION
	local file
	for file in "$ENTRIES/molt-$1.conf" "$ENTRIES/molt-$1"+*.conf; do
		if [ -s "$file" ]; then echo "$file" && return; fi
	done
}

entry_version() { # FILE
	local name="${1##*/molt-}"
	name=${name%.conf}
	echo "${name%%+*}"
}

entry_left() { # FILE
	case ${1##*/} in
	*+*) echo "${1##*+}" | sed 's/-.*//; s/\.conf$//' ;;
	*) echo good ;;
	esac
}

# "KEY VERSION LEFT", in the order of systemd-boot.
entries() {
	local file key
	for file in "$ENTRIES"/molt-*.conf; do
		[ -s "$file" ] || continue
		key=$(sed -n 's/^sort-key[[:space:]]\{1,\}molt-//p' "$file")
		echo "${key:-99999999} $(entry_version "$file") $(entry_left "$file")"
	done | sort -s -k1,1n
}

entries_default() {
	entries | awk '$3 != "0" { print $2; exit }'
}

least_key() {
	entries | awk 'NR == 1 { print $1 }'
}

# Under the name that has LEFT tries. Written anew and not renamed: see hold(). What was there before
# goes once the new one is on the disk, and until then the new one comes first.
entry_write() { # VERSION LEFT TEXT
	local old new="$ENTRIES/molt-$1.conf"
	[ "$2" = good ] || new="$ENTRIES/molt-$1+$2.conf"
	if [ "$3" != "$(cat "$new" 2>/dev/null)" ]; then
		printf '%s\n' "$3" | replace "$new" || exit 1
	fi
	for old in "$ENTRIES/molt-$1.conf" "$ENTRIES/molt-$1"+*.conf; do
		if [ "$old" != "$new" ]; then discard "$old"; fi
	done
}

entry_text() { # VERSION KEY FILE
	local line
	if [ "$3" ]; then
		grep -v '^sort-key[[:space:]]' "$3" || die "cannot read $3"
	else
		line=$(command_line "$1") || exit 1
		printf 'title %s\nversion %s\nlinux /molt-%s/linux\n' "$1" "$1" "$1"
		if [ -f "$BOOT/molt-$1/initrd" ]; then echo "initrd /molt-$1/initrd"; fi
		echo "options $line"
	fi
	echo "sort-key molt-$2"
}

loader_conf() {
	local file="$BOOT/loader/loader.conf" text
	text=$(echo 'default molt-*'; grep -v '^default[[:space:]]' "$file" 2>/dev/null || :)
	if [ "$text" != "$(cat "$file" 2>/dev/null)" ]; then
		printf '%s\n' "$text" | replace "$file" || exit 1
	fi
}

systemd_set() { # VERSION ROOT TRIES
	local file key text
	file=$(entry_of "$1")
	if [ "$(entries_default)" != "$1" ]; then
		key=$(least_key)
		if [ "${key:-99999999}" = 99999999 ]; then key=50000000; fi
		key=$((key - 1))
		if [ ! "$file" ]; then copy_kernel "$2" "$1"; fi
		text=$(entry_text "$1" "$key" "$file") || exit 1
		entry_write "$1" "$3" "$text"
	fi
	loader_conf
}

# The entry of an image has LEFT tries from now on.
systemd_state() { # VERSION LEFT
	local file text
	file=$(entry_of "$1")
	[ "$file" ] || return 0
	text=$(cat "$file") || die "cannot read $file"
	entry_write "$1" "$2" "$text"
}

# Any of them

loader_default() {
	case $LOADER in
	extlinux) extlinux_default ;;
	systemd-boot) entries_default ;;
	*) choice ;;
	esac
}

loader_set() { # VERSION ROOT TRIES
	case $LOADER in
	extlinux) extlinux_set "$1" "$2" ;;
	systemd-boot) systemd_set "$1" "$2" "$3" ;;
	esac
}

loader_forget() { # VERSION
	local file
	case $LOADER in
	extlinux)
		if extlinux_has "$1"; then
			file=$(extlinux_text '' "$1") || exit 1
			printf '%s\n' "$file" | replace "$EXTLINUX" || exit 1
		fi ;;
	systemd-boot)
		for file in "$ENTRIES/molt-$1.conf" "$ENTRIES/molt-$1"+*.conf; do discard "$file"; done ;;
	*) return 0 ;;
	esac
	forget_kernel "$BOOT/molt-$1"
}
