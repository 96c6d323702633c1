# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# STORE/boot: which images are committed, the latest first, one in a line with what is known of it:
#
#	3 2        may fail to boot two times more
#	2 good     has booted
#	1 bad      has failed, or was rolled back from
#
# The first that is not bad and has tries left is the one to boot; the next such one is the
# previous. It is one file, so that there is no state between two.

read_order() {
	sed -n 's/^\([A-Za-z0-9][A-Za-z0-9._~-]* [a-z0-9]*\)$/\1/p' "$STORE/boot" 2>/dev/null || :
}

# The N-th image that may be booted, of those on standard input. One that somebody has taken away
# does not count.
nth_bootable() { # N
	local n="$1" version state
	while read -r version state; do
		case $state in bad | 0) continue ;; esac
		[ "$(image_path "$version")" ] || continue
		n=$((n - 1))
		if [ "$n" = 0 ]; then
			echo "$version"
			return
		fi
	done
}

order_state() { # VERSION
	read_order | while read -r version state; do
		if [ "$version" = "$1" ]; then echo "$state"; fi
	done
}

# All but one, in their order.
order_without() { # VERSION
	read_order | while read -r version state; do
		if [ "$version" != "$1" ]; then echo "$version $state"; fi
	done
}

# What was committed after VERSION is bad: that was rolled back from, or did not boot.
order_back_to() { # VERSION STATE
	local seen='' version state
	echo "$1 $2"
	read_order | while read -r version state; do
		if [ "$version" = "$1" ]; then
			seen=yes
		elif [ "$seen" ]; then
			echo "$version $state"
		else
			echo "$version bad"
		fi
	done
}

order_with_state() { # VERSION STATE
	read_order | while read -r version state; do
		if [ "$version" = "$1" ]; then state=$2; fi
		echo "$version $state"
	done
}

# Writes it if it is not so already.
write_order() { # TEXT
	if [ "$(read_order)" != "$1" ]; then
		printf '%s\n' "$1" | replace "$STORE/boot" || exit 1
	fi
}

# Which one boots where no boot loader counts: where none is left, the first that has ever booted,
# or any, since anything is better than nothing.
choice() {
	local chosen version state
	chosen=$(read_order | nth_bootable 1)
	[ "$chosen" ] || chosen=$(read_order | while read -r version state; do
		if [ "$(image_path "$version")" ]; then echo "$version"; fi
	done | tail -n 1)
	echo "$chosen"
}
