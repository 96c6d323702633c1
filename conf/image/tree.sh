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

tree_has() { # TREE PATH
	[ -e "$(in_tree "$1" "$2")" ]
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
	tree_has "$tree" /etc/os-release ||
		{ echo "molt-image: $tree has no /etc/os-release" >&2 && well=''; }
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
	cat "$1/etc/molt/init.conf" "$1"/etc/molt/init.conf.d/*.conf 2>/dev/null |
		sed -n 's/^[[:space:]]*Carry[[:space:]]*=//p' | tr -d '"'
}

# What is per machine goes. What Carry= brings later keeps an empty file: a read-only image has to
# have the place.
forget_file() { # TREE PATH
	local pattern
	[ -e "$1$2" ] || [ -L "$1$2" ] || return 0
	set -f
	for pattern in $PATTERNS; do
		# shellcheck disable=SC2254
		case $2 in
		$pattern) set +f && rm -f "$1$2" && (umask 077 && : >"$1$2") && return ;;
		esac
	done
	set +f
	rm -rf "${1:?}$2"
}

strip_machine() { # TREE
	local tree="$1" file
	PATTERNS=$(carried_patterns "$tree")
	for file in "$tree"/etc/ssh/ssh_host_*key "$tree"/etc/ssh/ssh_host_*key.pub \
		"$tree"/var/lib/dbus/machine-id "$tree"/var/lib/systemd/random-seed \
		"$tree"/var/lib/urandom/random-seed "$tree"/var/lib/molt/random-seed \
		"$tree"/var/lib/systemd/credential.secret "$tree"/var/lib/NetworkManager/secret_key \
		"$tree"/var/lib/dhcp/*.leases "$tree"/etc/udev/rules.d/70-persistent-*.rules \
		"$tree"/root/.*_history "$tree"/etc/.pwd.lock "$tree"/var/lib/molt/images \
		"$tree"/var/lib/molt/carry; do
		forget_file "$tree" "${file#"$tree"}"
	done
	rm -f "$tree/etc/machine-id"
	: >"$tree/etc/machine-id"
	for file in run tmp var/tmp var/log/journal; do
		if [ -d "$tree/$file" ] && [ ! -L "$tree/$file" ]; then
			find "$tree/$file" -mindepth 1 -delete
		fi
	done
}

# A mount needs its place, and a read-only image makes none.
make_places() { # TREE
	local tree="$1" place at
	for place in /proc /sys /dev /run /tmp /var /home /root /mnt /boot $(fstab_places "$tree"); do
		at=$(in_tree "$tree" "$place") || die "$place of $tree is a circle of links"
		if [ ! -e "$at" ]; then mkdir -p "$at"; fi
		case $place in /tmp) chmod 1777 "$at" ;; /root) chmod 700 "$at" ;; esac
	done
}

fstab_places() { # TREE
	[ -f "$1/etc/fstab" ] || return 0
	awk '$1 !~ /^#/ && $2 ~ /^\/./ && $3 != "swap" { print $2 }' "$1/etc/fstab"
}

# IMAGE_VERSION of os-release(5) is what the image is called by from now on.
name_tree() { # TREE VERSION
	local file text
	file=$(in_tree "$1" /etc/os-release)
	text=$(grep -v '^IMAGE_VERSION=' "$file" || :)
	printf '%s\nIMAGE_VERSION=%s\n' "$text" "$2" >"$file"
}
