# SPDX-License-Identifier: MIT
# molt: build, install, test. `make help` lists the targets.

VERSION := 0.1.0
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
LIBDIR ?= $(PREFIX)/lib
# Where molt looks for hooks and molt-image for its parts, if PREFIX is /usr.
MOLTDIR ?= $(PREFIX)/lib/molt
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR ?= $(PREFIX)/share/doc/molt
# Where molt looks for the services that come with it, whatever PREFIX says.
UNITDIR ?= /usr/lib/molt/system
# The link /sbin/init -> molt, and the old commands as links to initctl: say yes for an image that molt
# boots, never by accident.
INIT_LINK ?= no
LINKS := telinit shutdown reboot halt poweroff
LINK_TARGET = $(shell realpath -sm --relative-to=$(SBINDIR) $(BINDIR)/initctl)

# V=1 shows the commands.
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

# ARCH=arm64 on a PC (or the other way round) builds with Debian's cross compiler, in a directory of
# its own.
arch_name = $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(1)))
HOST_ARCH := $(call arch_name,$(shell uname -m))
ARCH ?= $(HOST_ARCH)
TRIPLET_amd64 := x86_64-linux-gnu
TRIPLET_arm64 := aarch64-linux-gnu
TRIPLET := $(or $(TRIPLET_$(ARCH)),$(error ARCH is amd64 or arm64, not $(ARCH)))
ifeq ($(ARCH),$(HOST_ARCH))
BUILD ?= build
PKG_CONFIG ?= pkg-config
else
BUILD ?= build/$(ARCH)
ifeq ($(origin CC),default)
CC := $(TRIPLET)-gcc
endif
ifeq ($(origin AR),default)
AR := $(TRIPLET)-ar
endif
PKG_CONFIG ?= PKG_CONFIG_LIBDIR=/usr/lib/$(TRIPLET)/pkgconfig:/usr/share/pkgconfig pkg-config
endif
CFLAGS ?= -O2 -g
# WERROR= for who builds with a compiler that nobody here has tried.
WERROR ?= -Werror
WARNINGS := -Wall -Wextra -Wshadow -Wswitch-enum -Wmissing-prototypes -Wstrict-prototypes -Wformat=2 $(WERROR)
# Cutting a text at the end of its buffer is what snprintf() is for here.
ifeq ($(findstring clang,$(CC)),)
WARNINGS += -Wno-format-truncation
endif
# The clock of a machine without one is never before it: the time of the commit, so that the same
# source builds the same program; without git, now.
BUILD_TIME := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || date +%s))
DEFINES := -D_GNU_SOURCE -DMOLT_VERSION='"$(VERSION)"'
LIBRARIES := mount blkid libcap inih
# Not at parse time for `make deps`, which is there to install pkg-config itself.
PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(LIBRARIES))
PKG_LIBS = $(shell $(PKG_CONFIG) --libs $(LIBRARIES))
# Compilers and build systems of distributions may have a level of _FORTIFY_SOURCE of their own.
FORTIFY := $(if $(findstring _FORTIFY_SOURCE,$(CFLAGS) $(CPPFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDENING := -fstack-protector-strong $(FORTIFY) -fPIE
# What each file includes, whichever way BUILD names the directory: `make install BUILD=$PWD/build` would else
# link what was compiled before a header has changed with what was compiled since.
DEPEND = -MMD -MP $(foreach name,$(sort $(abspath $@) $(patsubst $(CURDIR)/%,%,$(abspath $@))),-MT $(name))
ALL_CFLAGS = -std=gnu17 -I. $(DEFINES) $(WARNINGS) $(HARDENING) $(PKG_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(LDFLAGS)

ARCH_OTHER := $(if $(filter amd64,$(ARCH)),kernel/inject_aarch64%,kernel/inject_x86_64%)
KERNEL_SRC := $(filter-out $(ARCH_OTHER),$(wildcard kernel/*.c))
CONF_SRC := $(wildcard conf/*.c)
SERVICES_SRC := $(wildcard services/*.c)
UPGRADE_SRC := $(wildcard upgrade/*.c)
INIT_SRC := $(wildcard init/*.c init/*/*.c)
INITCTL_SRC := $(wildcard initctl/*.c) conf/record.c conf/number.c conf/when.c kernel/error.c
CLIENT_SRC := $(wildcard services/client/*.c)
EXAMPLES_SRC := $(wildcard services/client/examples/*.c)
LIB_SRC := $(KERNEL_SRC) $(CONF_SRC) $(SERVICES_SRC) $(UPGRADE_SRC)
MOLT_SRC := $(LIB_SRC) $(INIT_SRC)
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tools/%,$(wildcard tests/tools/*.c)) $(BUILD)/tools/holder
HOLDER_SRC := $(wildcard tests/tools/holder/*.c)
CLIENT := $(BUILD)/client/libmolt-client.a
EXAMPLES := $(patsubst services/client/examples/%.c,$(BUILD)/examples/%,$(EXAMPLES_SRC))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

.PHONY: initramfs initramfs-test all arm64 examples deps test unit unit-build system demo install uninstall format lint clean help tools fuzzers nofreeze faults crashes older sidebyside boots deb stock matrix matrix-list shell

all: $(BUILD)/molt $(BUILD)/initctl $(CLIENT)

help:
	@echo "all          build molt (PID 1), initctl and libmolt-client below $(BUILD)/"
	@echo "examples     build the examples of libmolt-client"
	@echo "deps         install the Debian packages that building and testing need (root)"
	@echo "test         unit tests, system tests in namespaces, boots in QEMU (root)"
	@echo "unit system  the two halves of it alone"
	@echo "faults       every system call of an upgrade fails, with each error it can have (root; half an hour on two cores)"
	@echo "crashes      1000 crashes of PID 1 in a row, 2000 in upgrades, 1000 re-execs (root)"
	@echo "older        an init of REVISION= takes up the state of this one, and back (root, git history)"
	@echo "initramfs    molt as /init: KERNEL=VERSION-OR-IMAGE, MODULES=\"NAMES\", OUT=FILE"
	@echo "initramfs-test  it finds and releases roots of every kind, in QEMU (root); ROOTS=\"NAMES\""
	@echo "demo         Debian 12 to 13 under load, in QEMU"
	@echo "boots        a Debian 13 with its own udevd, agetty, sulogin, fsck and kexec, booted four times in QEMU (root)"
	@echo "sidebyside   the image layout in QEMU: boot loaders, power cuts, images that do not boot (root; minutes)"
	@echo "matrix       architectures x kernels x roots x scenarios in QEMU (root; hours); CELL=x86_64/6.12/erofs/upgrade is"
	@echo "             one of them, CELL='arm64/*/*/boot' some; JOBS=2; RESUME=yes goes on with a run; docs/matrix.md"
	@echo "matrix-list  the names of the cells; shell: sit in front of CELL=..."
	@echo "ARCH=arm64   with any of these: cross-built below build/arm64/ (where that is not the machine's own)"
	@echo "install      to \$$(DESTDIR)\$$(PREFIX); INIT_LINK=yes also links sbin/init, telinit, shutdown, reboot, ..."
	@echo "deb          Debian packages: build/deb/; stock: a Debian 13 with them in QEMU (root)"
	@echo "uninstall    takes that away again, from the same DESTDIR and PREFIX"
	@echo "lint         clang, clang-format, cppcheck, clang-tidy; fuzzers: build/fuzz/ (clang)"
	@echo "format clean"

$(BUILD)/molt: $(call obj,$(MOLT_SRC))
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/initctl: $(call obj,$(INITCTL_SRC))
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^

# For one test alone: a molt that does not freeze, to show that the test sees what the freeze prevents.
nofreeze: $(BUILD)/nofreeze/molt
$(BUILD)/nofreeze/molt: FORCE
	$(MAKE) BUILD=$(BUILD)/nofreeze DEFINES="$(subst ",\",$(DEFINES)) -DMOLT_TEST_NO_FREEZE" $(BUILD)/nofreeze/molt
FORCE:

$(BUILD)/obj/init/stages/clock.o: CFLAGS += -DMOLT_BUILD_TIME=$(BUILD_TIME)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(DEPEND) -c -o $@ $<

# What authors of services link with: C and libc, and nothing of molt's own build.
$(BUILD)/client/%.o: services/client/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) $(HARDENING) -fPIC $(CPPFLAGS) $(CFLAGS) $(DEPEND) -c -o $@ $<

$(BUILD)/client/libmolt-client.a: $(patsubst services/client/%.c,$(BUILD)/client/%.o,$(CLIENT_SRC))
	$(Q)rm -f $@ && $(AR) rcs $@ $^

examples: $(EXAMPLES)
$(BUILD)/examples/%: services/client/examples/%.c $(BUILD)/client/libmolt-client.a Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) -O2 -g -Iservices/client $(DEPEND) -o $@ $< $(BUILD)/client/libmolt-client.a

# What holds nothing of an image once it runs from elsewhere: not even libraries.
STATIC_TOOLS := $(BUILD)/tools/stream-static $(BUILD)/tools/holder-static

tools: $(EXAMPLES) $(TOOLS) $(STATIC_TOOLS) $(BUILD)/tools/seam.so $(BUILD)/tools/seam-away.so
$(BUILD)/tools/%: tests/tools/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -pthread -o $@ $<

$(BUILD)/tools/%-static: tests/tools/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -pthread -static -o $@ $<

$(BUILD)/tools/holder: $(HOLDER_SRC) tests/tools/holder/holder.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -pthread -o $@ $(HOLDER_SRC)

$(BUILD)/tools/holder-static: $(HOLDER_SRC) tests/tools/holder/holder.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -pthread -static -o $@ $(HOLDER_SRC)

$(BUILD)/tools/seam.so $(BUILD)/tools/seam-away.so: tests/seam/seam.c tests/seam/seam.h tests/seam/calls.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -g -shared -fPIC -DSEAM_AWAY=$(if $(findstring away,$@),1,0) -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(call obj,$(LIB_SRC))
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(DEPEND) -o $@ $< $(call obj,$(LIB_SRC)) $(PKG_LIBS) -lcmocka

fuzzers: $(FUZZERS)
$(BUILD)/fuzz/%: tests/fuzz/%.c $(LIB_SRC)
	@mkdir -p $(@D)
	clang $(filter-out -Wno-format-truncation,$(ALL_CFLAGS)) -fsanitize=fuzzer,address,undefined -o $@ $< $(LIB_SRC) $(PKG_LIBS)

-include $(shell find $(BUILD) -name '*.d' -type f -not -path '*/older/*' 2>/dev/null)

HOOKS := $(patsubst conf/hooks/%,%,$(wildcard conf/hooks/*/*))
UNIT_DROPINS := $(patsubst conf/units/%,%,$(wildcard conf/units/*.d/*.conf))
install: all
	install -D -m 0755 $(BUILD)/molt $(DESTDIR)$(SBINDIR)/molt
	install -D -m 0755 $(BUILD)/initctl $(DESTDIR)$(BINDIR)/initctl
	for page in docs/*.[1-8]; do install -D -m 0644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; done
	install -D -m 0644 conf/init.conf $(DESTDIR)$(DOCDIR)/init.conf
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)
	install -D -m 0755 conf/image/molt-image $(DESTDIR)$(SBINDIR)/molt-image
	install -d $(DESTDIR)$(MOLTDIR)/image && install -m 0644 conf/image/*.sh $(DESTDIR)$(MOLTDIR)/image
	install -m 0644 conf/image/image.conf $(DESTDIR)$(DOCDIR)/image.conf
	install -D -m 0755 conf/initramfs/molt-initramfs $(DESTDIR)$(MOLTDIR)/initramfs/molt-initramfs
	install -m 0644 conf/initramfs/*.py $(DESTDIR)$(MOLTDIR)/initramfs
	ln -sfn $(shell realpath -sm --relative-to=$(SBINDIR) $(MOLTDIR))/initramfs/molt-initramfs $(DESTDIR)$(SBINDIR)/molt-initramfs
	for hook in $(HOOKS); do install -D -m 0755 conf/hooks/$$hook $(DESTDIR)$(MOLTDIR)/$$hook || exit 1; done
	install -d $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 services/client/examples/*.c services/client/examples/*.py services/client/examples/*.service $(DESTDIR)$(DOCDIR)/examples
	install -D -m 0644 services/client/molt-client.h $(DESTDIR)$(INCLUDEDIR)/molt-client.h
	install -D -m 0644 $(BUILD)/client/libmolt-client.a $(DESTDIR)$(LIBDIR)/libmolt-client.a
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig
	sed -e 's|@PREFIX@|$(PREFIX)|;s|@LIBDIR@|$(LIBDIR)|;s|@INCLUDEDIR@|$(INCLUDEDIR)|;s|@VERSION@|$(VERSION)|' \
		services/client/molt-client.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/molt-client.pc
	install -D -m 0644 conf/completion/initctl $(DESTDIR)$(PREFIX)/share/bash-completion/completions/initctl
	install -d $(DESTDIR)$(UNITDIR)
	install -m 0644 conf/units/*.service $(DESTDIR)$(UNITDIR)
	for unit in $(UNIT_DROPINS); do install -D -m 0644 conf/units/$$unit $(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
ifeq ($(INIT_LINK),yes)
	ln -sfn molt $(DESTDIR)$(SBINDIR)/init
	for link in $(LINKS); do ln -sfn $(LINK_TARGET) $(DESTDIR)$(SBINDIR)/$$link || exit 1; done
endif

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/molt $(DESTDIR)$(BINDIR)/initctl
	for page in docs/*.[1-8]; do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; done
	rm -f $(DESTDIR)$(INCLUDEDIR)/molt-client.h $(DESTDIR)$(LIBDIR)/libmolt-client.a $(DESTDIR)$(LIBDIR)/pkgconfig/molt-client.pc
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,$(notdir $(wildcard docs/*.md))) $(addprefix $(DESTDIR)$(DOCDIR)/examples/,$(notdir $(wildcard services/client/examples/*)))
	rm -f $(DESTDIR)$(DOCDIR)/image.conf $(DESTDIR)$(SBINDIR)/molt-image
	rm -f $(addprefix $(DESTDIR)$(MOLTDIR)/,$(HOOKS) $(patsubst conf/%,%,$(wildcard conf/image/*.sh)))
	rm -f $(DESTDIR)$(SBINDIR)/molt-initramfs $(addprefix $(DESTDIR)$(MOLTDIR)/,$(patsubst conf/%,%,$(wildcard conf/initramfs/*)))
	-rmdir $(DESTDIR)$(MOLTDIR)/image $(DESTDIR)$(MOLTDIR)/initramfs $(addprefix $(DESTDIR)$(MOLTDIR)/,$(sort $(dir $(HOOKS)))) $(DESTDIR)$(MOLTDIR) 2>/dev/null
	rmdir $(DESTDIR)$(DOCDIR)/examples 2>/dev/null || true
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(notdir $(wildcard conf/units/*.service)) $(UNIT_DROPINS))
	-rmdir $(addprefix $(DESTDIR)$(UNITDIR)/,$(dir $(UNIT_DROPINS))) 2>/dev/null
	rm -f $(DESTDIR)$(DOCDIR)/init.conf $(DESTDIR)$(PREFIX)/share/bash-completion/completions/initctl
	@if [ "$$(readlink $(DESTDIR)$(SBINDIR)/init)" = molt ]; then rm -f $(DESTDIR)$(SBINDIR)/init; fi
	@for link in $(LINKS); do \
		if [ "$$(readlink $(DESTDIR)$(SBINDIR)/$$link)" = $(LINK_TARGET) ]; then rm -f $(DESTDIR)$(SBINDIR)/$$link; fi; done

clean:
	rm -rf $(BUILD)

SOURCES_FORMATTED := $(wildcard */*.c */*.h init/*/*.[ch] tests/*/*.[ch] tests/tools/*/*.[ch] services/client/*.[ch] services/client/*/*.c)
format:
	@clang-format -i $(SOURCES_FORMATTED)

# Debian packages of this work tree in build/deb/, built in a copy of it: with what git has not seen
# yet, without what it ignores. The same tree gives the same bytes wherever it lies and whoever builds:
# the date is the changelog's, and dpkg-buildflags(1) maps paths away. DEB_BUILT=yes packs what lies
# below build/ instead of compiling it once more, for the test: such packages are for nobody.
DEB := $(BUILD)/deb
DEB_TREE := $(DEB)/molt-$(VERSION)
DEB_BUILT ?= no
DEB_JOBS := $(shell nproc)
deb:
	@command -v dh >/dev/null || { echo "debhelper is missing: run make deps"; exit 1; }
	@[ "$$(dpkg-parsechangelog -S Version)" = $(VERSION) ] || { echo "debian/changelog is not of version $(VERSION)"; exit 1; }
	rm -rf $(DEB) && mkdir -p $(DEB_TREE)
	tar -c --exclude=./build --exclude=./.git --exclude=./.cache --exclude=__pycache__ --exclude=.pytest_cache . | \
		tar -x -C $(DEB_TREE)
ifeq ($(DEB_BUILT),yes)
	mkdir $(DEB_TREE)/build && cp -a $(BUILD)/molt $(BUILD)/initctl $(BUILD)/obj $(BUILD)/client $(DEB_TREE)/build
endif
	@cd $(DEB_TREE) && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES dpkg-buildpackage -b -us -uc -j$(DEB_JOBS) \
		$(if $(filter yes,$(DEB_BUILT)),-nc) $(if $(filter-out $(HOST_ARCH),$(ARCH)),-a$(ARCH)) >../build.log 2>&1 || \
		{ tail -n 40 ../build.log; exit 1; }
	@ls $(DEB)/*.deb

# The packages, installed by apt in the place of systemd-sysv, in a Debian 13 that is booted in QEMU.
stock: deb
	$(MAKE) tools
	$(PYTHON) -m qemu.stock --build $(BUILD)

PYTHON := /usr/bin/python3
# make initramfs KERNEL=/boot/vmlinuz-6.1.0-50-amd64 OUT=/boot/initrd.molt
# INITRAMFS_FLAGS: more of its options, molt-initramfs(8).
KERNEL ?= $(shell uname -r)
MODULES ?= default
OUT ?= $(BUILD)/initramfs
initramfs: $(BUILD)/molt
	conf/initramfs/molt-initramfs --kernel "$(KERNEL)" --modules "$(MODULES)" --molt $(BUILD)/molt --output "$(OUT)" \
		$(INITRAMFS_FLAGS)
# What such an initramfs finds, and lets go of on the way down; Debian's initramfs-tools and dracut before
# molt; arm64. In QEMU, minutes on two cores: no part of `make test`, which has some of it. ROOTS="NAME ...".
initramfs-test: deps
	$(MAKE) all tools
	$(PYTHON) -m qemu.initramfs_boots --build $(BUILD) $(ROOTS)
ifeq ($(HOST_ARCH)$(ROOTS),amd64)
	$(MAKE) ARCH=arm64 BUILD=$(BUILD)/arm64 CC=$(TRIPLET_arm64)-gcc AR=$(TRIPLET_arm64)-ar all tools
	$(PYTHON) -m qemu.initramfs_boots --build $(BUILD)/arm64 --architecture arm64 label verified
	$(PYTHON) -m qemu.initramfs_others --build $(BUILD)
endif
# Several images side by side, real boot loaders, power cuts, and images that do not boot
# (docs/image-layout.md). In QEMU, some minutes on two cores (root, for loop devices).
# SIDEBYSIDE="losses efi bios asked" are all of them.
SIDEBYSIDE ?=
sidebyside: deps
	$(MAKE) all tools
	$(PYTHON) -m qemu.sidebyside --build $(BUILD) $(SIDEBYSIDE)

# The boot, whole: some minutes on two cores, no part of `make test`. Logs in build/wholeboot/.
boots: deps
	$(MAKE) all tools
	MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) -s --timeout 3600 -m long tests/system/test_qemu_wholeboot.py

demo: deps
	$(MAKE) all tools
	$(PYTHON) -m qemu.demo --build $(BUILD)

# Cells of the matrix: docs/matrix.md. CELL is none (all), names, or patterns; RESUME=yes takes over what
# was good in an earlier run of the same build, KEEP=yes keeps disks and saved machines for the next one.
CELL ?=
JOBS ?= 2
RESUME ?=
KEEP ?=
MATRIX = $(PYTHON) -m qemu.matrix --build $(BUILD) --out $(BUILD)/matrix --jobs $(JOBS) \
	$(if $(filter-out no,$(RESUME)),--resume) $(if $(filter-out no,$(KEEP)),--keep)
matrix shell: deps
	$(MAKE) all tools
ifeq ($(HOST_ARCH),amd64)
	$(MAKE) ARCH=arm64 BUILD=$(BUILD)/arm64 CC=$(TRIPLET_arm64)-gcc AR=$(TRIPLET_arm64)-ar all tools
endif
	@set -f; exec $(MATRIX) $(if $(filter shell,$@),--shell) $(CELL)

matrix-list:
	@set -f; exec $(MATRIX) --list $(CELL)

# What building, testing and the demo need, by name, from Debian. Who is not root needs two more for
# the demo: user name spaces for mmdebstrap, and root's ownership in images.
PACKAGES := build-essential pkg-config libmount-dev libblkid-dev libcap-dev libinih-dev libcmocka-dev \
	clang clang-format clang-tidy cppcheck python3 python3-pytest python3-pytest-timeout python3-pytest-xdist \
	mount util-linux iproute2 procps nginx-light qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs kmod \
	xz-utils zstd busybox-static squashfs-tools erofs-utils btrfs-progs xfsprogs cryptsetup-bin \
	debhelper lintian dosfstools mtools
PACKAGES_USER := uidmap fakeroot
# A PC cross-builds for arm64 and tests that in QEMU: the compiler, and libraries as Debian has them for
# a foreign architecture.
PACKAGES_amd64 := gcc-aarch64-linux-gnu qemu-system-arm extlinux systemd-boot-efi ovmf \
	$(addsuffix :arm64,libc6-dev libmount-dev libblkid-dev libcap-dev libinih-dev libcmocka-dev \
	libcryptsetup12)
# Installs what is missing (root), or says the one line that does. What brings a service along, nginx,
# is not started meanwhile (policy-rc.d, where nobody has one), nor at the next boot.
deps:
	@list="$(PACKAGES) $(PACKAGES_$(HOST_ARCH))"; [ "$$(id -u)" = 0 ] || list="$$list $(PACKAGES_USER)"; \
	have=$$(dpkg-query -W -f '$${db:Status-Status} $${Package}:$${Architecture}\n' | \
		sed -n 's/^installed //p' | sed 's/:\(all\|$(HOST_ARCH)\)$$//'); \
	missing=; for p in $$list; do printf '%s\n' $$have | grep -qx "$$p" || missing="$$missing $$p"; done; \
	[ -n "$$missing" ] || exit 0; \
	foreign=; case "$$missing" in *:arm64*) \
		dpkg --print-foreign-architectures | grep -qx arm64 || foreign="dpkg --add-architecture arm64";; esac; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "Missing packages. As root: $${foreign:+$$foreign && apt-get update && }apt-get install --no-install-recommends$$missing"; exit 1; \
	fi; \
	echo "installing$$missing"; \
	$$foreign; policy=/usr/sbin/policy-rc.d; ours=; had=$$(command -v nginx); \
	[ -e $$policy ] || { ours=yes; printf '#!/bin/sh\nexit 101\n' >$$policy && chmod 0755 $$policy; }; \
	trap '[ -z "$$ours" ] || rm -f '$$policy EXIT; trap 'exit 1' HUP INT TERM; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o Dpkg::Use-Pty=0 $$missing >/dev/null || exit 1; \
	[ -n "$$had" ] || ! command -v systemctl >/dev/null || systemctl disable -q nginx.service || :

# Unit tests, then molt as PID 1 in namespaces two at a time, then alone what measures or loads the
# machine, and the boots in QEMU. Each runner prints its own count; the last line is pytest's.
PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider --timeout 900
test: deps
	$(MAKE) all tools nofreeze
	$(MAKE) unit
	$(MAKE) system

unit-build: $(UNIT_TESTS)

ifeq ($(ARCH),$(HOST_ARCH))
unit: unit-build
	@for t in $(UNIT_TESTS); do echo "$$t"; $$t || exit 1; done

# What a PC tests of arm64: tests/system/test_qemu_arm64.py.
ifeq ($(HOST_ARCH),amd64)
system: arm64
endif
arm64:
	$(MAKE) ARCH=arm64 BUILD=$(BUILD)/arm64 CC=$(TRIPLET_arm64)-gcc AR=$(TRIPLET_arm64)-ar all tools unit-build

system: all tools nofreeze
	@[ "$$(id -u)" = 0 ] || { echo "The system tests make namespaces, mounts and cgroups: run them as root."; exit 1; }
	MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) -n 2 -m "not alone and not long" tests/system
	MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) -m "alone and not long" tests/system
else
# Built for another architecture: in QEMU.
unit: unit-build
	$(PYTHON) -m qemu.unit --build $(BUILD)

system: all tools unit-build
	MOLT_BUILD_ARM64=$(abspath $(BUILD)) $(PYTEST) tests/system/test_qemu_arm64.py
endif

# Where `make test` takes two calls of each place in the program.
faults: all tools
	MOLT_EVERY_CALL=1 MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) -n 2 tests/system/test_every_call.py

# An init of an earlier revision takes up the state of this one, and the other way round. Wants the
# history of the repository, so it is no part of `make test`. The default is the first with golden files.
REVISION ?= 4be3c9c
older: all tools
	rm -rf $(BUILD)/older && mkdir -p $(BUILD)/older
	git archive $(REVISION) | tar -x -C $(BUILD)/older
	+$(MAKE) -C $(BUILD)/older BUILD=out CC="$(CC)" all
	MOLT_OLDER=$(abspath $(BUILD))/older/out MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) -k older_init tests/system/test_golden.py

# More of them than `make test` has time for: 1000 crashes of PID 1 in a row, a crash at each of 2000
# system calls of an upgrade, at 400 of a boot and of a shutdown, 1000 re-execs.
crashes: all tools
	MOLT_TEST_CRASHES=2000 MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) tests/system/test_crash_upgrade.py
	MOLT_TEST_CRASHES=400 MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) tests/system/test_crash_request.py
	MOLT_TEST_CRASHES=4000 MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) tests/system/test_crash_boot.py
	MOLT_TEST_CRASHES=1000 MOLT_TEST_MANY=1000 MOLT_BUILD=$(abspath $(BUILD)) $(PYTEST) \
		tests/system/test_crash.py tests/system/test_reexec.py

# Compilers and checkers; all must be silent. The clang build is a build of its own.
lint:
	$(MAKE) BUILD=$(BUILD)/clang CC=clang all tools $(patsubst $(BUILD)/%,$(BUILD)/clang/%,$(UNIT_TESTS))
	@clang-format --dry-run -Werror $(SOURCES_FORMATTED)
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --error-exitcode=1 -I. -D__$(shell uname -m)__ $(DEFINES) $(MOLT_SRC) $(INITCTL_SRC) \
		-Iservices/client $(CLIENT_SRC) $(EXAMPLES_SRC)
	@clang-tidy --quiet $(CLIENT_SRC) $(EXAMPLES_SRC) -- -std=gnu11 -D_GNU_SOURCE -Iservices/client 2>/dev/null
	@clang-tidy --quiet $(MOLT_SRC) $(INITCTL_SRC) -- -std=gnu17 -I. $(DEFINES) $(PKG_CFLAGS) 2>/dev/null
