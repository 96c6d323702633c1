################################################################################
#
# molt
#
################################################################################

MOLT_VERSION = 0.1.0
# The work tree that this external tree lies in. For a release: the address of its archive, and a
# molt.hash beside this file.
MOLT_SITE = $(BR2_EXTERNAL_MOLT_PATH)/../..
MOLT_SITE_METHOD = local
MOLT_LICENSE = MIT
MOLT_LICENSE_FILES = LICENSE
MOLT_INSTALL_STAGING = YES # libmolt-client
MOLT_DEPENDENCIES = host-pkgconf inih libcap util-linux

# BUILD: what somebody has compiled in that work tree comes along with it, and is of another compiler.
# BINDIR: initctl belongs to root, like the links to it.
MOLT_MAKE_OPTS = \
	$(TARGET_CONFIGURE_OPTS) \
	ARCH=$(if $(BR2_aarch64),arm64,amd64) \
	BUILD=for-target \
	WERROR= \
	PREFIX=/usr \
	SBINDIR=$(if $(BR2_ROOTFS_MERGED_USR),/usr/sbin,/sbin) \
	BINDIR=/usr/sbin

define MOLT_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(MOLT_MAKE_OPTS) all
endef

define MOLT_INSTALL_STAGING_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(MOLT_MAKE_OPTS) DESTDIR=$(STAGING_DIR) install
endef

# Beside another init it is there and changes nothing.
define MOLT_INSTALL_TARGET_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(MOLT_MAKE_OPTS) DESTDIR=$(TARGET_DIR) \
		INIT_LINK=$(if $(BR2_INIT_NONE),yes,no) install
endef

# What the kernel must have: molt refuses to boot, or to upgrade, without. Buildroot calls this when it
# configures the kernel that it builds.
define MOLT_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUPS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_PROC_FS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SYSFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TMPFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_DEVTMPFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_MEMFD_CREATE)
	$(call KCONFIG_ENABLE_OPT,CONFIG_UNIX)
	$(call KCONFIG_ENABLE_OPT,CONFIG_EPOLL)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SIGNALFD)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TIMERFD)
	$(call KCONFIG_ENABLE_OPT,CONFIG_INOTIFY_USER)
	$(call KCONFIG_ENABLE_OPT,CONFIG_KCMP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_NAMESPACES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BLK_DEV_LOOP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SQUASHFS)
endef

$(eval $(generic-package))
