# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# What makes a tree an image: what has to be in it, and what must not be.

# The file that a path of the tree leads to: its links stay inside.
in_tree() { # TREE PATH
	local rest="$2" at='' part target n=0
	rest=${rest#/}
	while [ "$rest" ]; do
		part=${rest%%/*}
		case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
		case $part in
		'' | .) continue ;;
		..) at=${at%/*} && continue ;;
		esac
		if [ -L "$1$at/$part" ]; then
			n=$((n + 1))
			[ $n -lt 40 ] || return 1
			target=$(readlink "$1$at/$part")
			case $target in /*) at='' ;; esac
			rest="$target${rest:+/$rest}"
		else
			at="$at/$part"
		fi
	done
	echo "$1$at"
}

# The kernel of a tree: the one its links name, or the latest. Where a boot partition is mounted on
# /boot, nobody sees the image's own: so `make` keeps the files in another place too.
KEPT=/usr/lib/molt/boot

find_kernel() { # TREE
	local file boot
	boot=$(in_tree "$1" /boot)
	for file in "$(in_tree "$1" "$KEPT/linux")" "$(in_tree "$1" /boot/vmlinuz)" "$(in_tree "$1" /vmlinuz)" \
		"$(printf '%s\n' "$boot"/vmlinuz-* | sort -V | tail -n 1)" "$boot/Image" \
		"$(printf '%s\n' "$1"/usr/lib/modules/*/vmlinuz | sort -V | tail -n 1)"; do
		if [ -f "$file" ]; then echo "$file" && return; fi
	done
}

# The initramfs that goes with a kernel.
find_initrd() { # TREE KERNEL
	local file at="${2%/*}" version="${2##*/vmlinuz-}"
	case $2 in */vmlinuz) version=${at##*/} ;; esac
	for file in "$(in_tree "$1" "$KEPT/initrd")" "$at/initrd.img-$version" "$at/initramfs-$version.img" \
		"$at/initrd-$version" "$at/initrd.img" "$at/initrd" "$at"/initramfs*; do
		if [ -f "$file" ]; then echo "$file" && return; fi
	done
}

# Another name of the same file takes no room.
keep_kernel() { # TREE
	local kernel initrd at
	at=$(in_tree "$1" "$KEPT")
	if [ -d "$at" ]; then rm -f "$at/linux" "$at/initrd"; fi
	kernel=$(find_kernel "$1")
	[ "$kernel" ] || return 0
	initrd=$(find_initrd "$1" "$kernel")
	mkdir -p "$at" || die "cannot make $KEPT in the image"
	ln "$kernel" "$at/linux" || die "cannot keep $kernel"
	[ ! "$initrd" ] || ln "$initrd" "$at/initrd" || die "cannot keep $initrd"
}

# Says everything that is missing, and is false then.
check_tree() { # TREE MODULES
	local tree="$1" well=yes file found=''
	if [ ! -x "$(in_tree "$tree" /sbin/init)" ]; then
		echo "molt-image: $tree has no /sbin/init that can be executed" >&2 && well=''
	fi
	for file in /usr/bin/initctl /bin/initctl /sbin/initctl /usr/sbin/initctl /usr/local/bin/initctl; do
		if [ -x "$(in_tree "$tree" "$file")" ]; then found=yes; fi
	done
	[ "$found" ] || { echo "molt-image: $tree has no initctl" >&2 && well=''; }
	if [ "$2" ]; then
		found=''
		for file in "$(in_tree "$tree" /lib/modules)"/*; do
			if [ -f "$file/modules.dep" ] || [ -f "$file/modules.builtin" ]; then found=yes; fi
		done
		[ "$found" ] || {
			echo "molt-image: $tree has no kernel modules in /lib/modules (--no-modules: it needs none)" >&2
			well=''
		}
	fi
	[ "$well" ]
}

# The words of Carry= in the tree's own configuration.
carried_patterns() { # TREE
	local at
	at=$(in_tree "$1" /etc/molt)
	cat "$at/init.conf" "$at"/init.conf.d/*.conf 2>/dev/null |
		sed -n 's/^[[:space:]]*Carry[[:space:]]*=//p' | tr -d '"'
}

# What is per machine goes. What Carry= brings later keeps an empty file: a read-only image has to
# have the place.
forget_file() { # FILE PATH
	local pattern
	[ -e "$1" ] || [ -L "$1" ] || return 0
	set -f
	for pattern in $PATTERNS; do
		# shellcheck disable=SC2254
		case $2 in
		$pattern) set +f && rm -f "$1" && (umask 077 && : >"$1") && return ;;
		esac
	done
	set +f
	rm -rf "$1"
}

# Files that match in a directory, wherever links of the tree lead to: never out of it, to this
# machine's own.
forget() { # TREE DIRECTORY PATTERN
	local at file
	at=$(in_tree "$1" "$2") || die "$2 of the tree is a circle of links"
	# shellcheck disable=SC2231
	for file in "$at"/$3; do
		forget_file "$file" "$2/${file##*/}"
	done
}

empty_directory() { # TREE DIRECTORY
	local at
	at=$(in_tree "$1" "$2") || die "$2 of the tree is a circle of links"
	if [ -d "$at" ]; then find "$at" -mindepth 1 -delete || die "cannot empty $2"; fi
}

strip_machine() { # TREE
	local tree="$1" at
	PATTERNS=$(carried_patterns "$tree")
	forget "$tree" /etc/ssh 'ssh_host_*key'
	forget "$tree" /etc/ssh 'ssh_host_*key.pub'
	forget "$tree" /etc .pwd.lock
	forget "$tree" /etc/udev/rules.d '70-persistent-*.rules'
	forget "$tree" /var/lib/dbus machine-id
	forget "$tree" /var/lib/systemd random-seed
	forget "$tree" /var/lib/systemd credential.secret
	forget "$tree" /var/lib/urandom random-seed
	forget "$tree" /var/lib/molt random-seed
	forget "$tree" /var/lib/molt images
	forget "$tree" /var/lib/molt carry
	forget "$tree" /var/lib/NetworkManager secret_key
	forget "$tree" /var/lib/dhcp '*.leases'
	forget "$tree" /root '.*_history'
	at=$(in_tree "$tree" /etc)
	mkdir -p "$at"
	rm -f "$at/machine-id"
	: >"$at/machine-id"
	for at in /run /tmp /var/tmp /var/log/journal; do empty_directory "$tree" "$at"; done
}

# A mount needs its place, and a read-only image makes none.
make_places() { # TREE
	local place
	for place in /proc /sys /dev /run /tmp /var /home /root /mnt /boot; do
		make_place "$1" "$place"
	done
	fstab_places "$1" | while IFS= read -r place; do
		make_place "$1" "$place"
	done || exit 1
	chmod 1777 "$(in_tree "$1" /tmp)"
}

make_place() { # TREE PATH
	local at
	at=$(in_tree "$1" "$2") || die "$2 of the tree is a circle of links"
	if [ ! -e "$at" ]; then
		mkdir -p "$at" || die "cannot make $2 in the image"
		if [ "$2" = /root ]; then chmod 700 "$at"; fi
	fi
}

# fstab(5) writes a space as \040.
fstab_places() { # TREE
	local at place
	at=$(in_tree "$1" /etc/fstab)
	[ -f "$at" ] || return 0
	awk '$1 !~ /^#/ && $2 ~ /^\// && $2 != "/" && $3 != "swap" { print $2 }' "$at" |
		sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g' | while IFS= read -r place; do
		printf '%b\n' "$place"
	done
}

# IMAGE_VERSION of os-release(5) is what the image is called by from now on.
name_tree() { # TREE VERSION
	local file text
	file=$(in_tree "$1" /etc/os-release)
	text=$(grep -v '^IMAGE_VERSION=' "$file" 2>/dev/null || echo ID=linux)
	mkdir -p "${file%/*}"
	rm -f "$file"
	printf '%s\nIMAGE_VERSION=%s\n' "$text" "$2" >"$file" || die "cannot write $file"
}
