# SPDX-License-Identifier: MIT
SUMMARY = "An init (PID 1) that swaps the root image under a running system"
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${S}/LICENSE;md5=a13fb74e7ac76cc078f4cc72dd735a2d"

# The work tree that this layer lies in. For a release: its address in SRC_URI, and S below WORKDIR.
inherit externalsrc pkgconfig
EXTERNALSRC = "${@os.path.realpath(os.path.join(d.getVar('FILE_DIRNAME'), '../../../..'))}"
EXTERNALSRC_BUILD = "${EXTERNALSRC}"

DEPENDS = "util-linux libcap libinih"
# libmount loads it when an image has a dm-verity root hash, which is not seen in the program.
RRECOMMENDS:${PN} += "cryptsetup"

# System calls are injected by code for these two; and it is written for glibc.
COMPATIBLE_HOST = "(x86_64|aarch64).*-linux"
COMPATIBLE_HOST:libc-musl = "null"

MOLT_ARCH:x86-64 = "amd64"
MOLT_ARCH:aarch64 = "arm64"
# "yes" for the image that molt boots: the links /sbin/init, shutdown, reboot, halt, poweroff, telinit.
# INIT_MANAGER = "none", or VIRTUAL-RUNTIME_init_manager = "molt" with IMAGE_INSTALL, goes with it.
MOLT_INIT_LINK ?= "no"

# BUILD: what somebody has compiled in that work tree is of another compiler.
EXTRA_OEMAKE = "ARCH=${MOLT_ARCH} BUILD=${WORKDIR}/build WERROR= PREFIX=${prefix} SBINDIR=${base_sbindir} \
    BINDIR=${base_sbindir} LIBDIR=${libdir} INCLUDEDIR=${includedir} MANDIR=${mandir} DOCDIR=${docdir}/molt \
    INIT_LINK=${MOLT_INIT_LINK}"

do_compile() {
    oe_runmake all
}

do_install() {
    oe_runmake DESTDIR=${D} install
}

FILES:${PN} += "${nonarch_libdir}/molt ${prefix}/lib/molt ${datadir}/bash-completion"
