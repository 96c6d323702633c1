# SPDX-License-Identifier: MIT
"""conf/buildroot, conf/yocto and conf/buildstream, as far as they can be tried without those: with
stand-ins for what they define, their commands as far as `make -n` goes, and the script that finishes the
image of Buildroot."""
import hashlib
import os
import pathlib
import re
import subprocess

import pytest

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
EXTERNAL = TREE / "conf/buildroot"

# What Buildroot's package/Makefile.in and pkg-generic.mk have, as far as molt.mk uses it.
STANDINS = r"""
BR2_EXTERNAL_MOLT_PATH := {external}
BR2_{architecture} := y
{settings}
TARGET_CONFIGURE_OPTS = CC="/cross/cc" AR="/cross/ar" PKG_CONFIG="pkg-config" CFLAGS="-Os -D_FORTIFY_SOURCE=1" LDFLAGS="-Wl,-O1"
TARGET_MAKE_ENV = PATH="$(PATH)"
STAGING_DIR := /of/staging
TARGET_DIR := /of/target
KCONFIG_ENABLE_OPT = echo enable $(1)
MAKE := make -n
SOURCE := {tree}
define generic-package
build: ; $$(MOLT_BUILD_CMDS)
staging: ; $$(MOLT_INSTALL_STAGING_CMDS)
target: ; $$(MOLT_INSTALL_TARGET_CMDS)
kernel: ; $$(MOLT_LINUX_CONFIG_FIXUPS)
endef
include $(BR2_EXTERNAL_MOLT_PATH)/external.mk
"""


def _expand(tmp_path, goal, architecture="x86_64", settings=""):
    """What Buildroot would run for a step of the package."""
    # $(@D) is Buildroot's stamp file's directory, which is the package's source.
    text = STANDINS.format(external=EXTERNAL, tree=TREE, architecture=architecture,
                           settings=settings).replace(
        "$(MAKECMDGOALS): override @D := $(SOURCE)\n", "")
    package = (EXTERNAL / "package/molt/molt.mk").read_text().replace("$(@D)", "$(SOURCE)")
    directory = tmp_path / "external"
    (directory / "package/molt").mkdir(parents=True, exist_ok=True)
    (directory / "package/molt/molt.mk").write_text(package)
    (directory / "external.mk").write_text((EXTERNAL / "external.mk").read_text())
    makefile = tmp_path / "Makefile"
    makefile.write_text(text.replace(str(EXTERNAL), str(directory)))
    environment = {k: v for k, v in os.environ.items()
                   if not k.startswith(("MAKE", "MFLAGS", "BUILD", "ARCH"))}
    made = subprocess.run(["make", "-s", "-f", makefile, goal], cwd=tmp_path, text=True,
                          capture_output=True, env=environment)
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr, made.stderr
    return made.stdout


@pytest.mark.parametrize("architecture, other", [("x86_64", "aarch64"), ("aarch64", "x86_64")])
def test_builds_for_the_target(tmp_path, architecture, other):
    commands = _expand(tmp_path, "build", architecture)
    compiled = [line for line in commands.splitlines() if "-c -o for-target/obj/" in line]
    assert len(compiled) > 100
    assert all(line.startswith("/cross/cc ") for line in compiled)
    assert all("-Werror" not in line and "_FORTIFY_SOURCE=2" not in line for line in compiled)
    assert any(f"kernel/inject_{architecture}" in line for line in compiled)
    assert not any(f"kernel/inject_{other}" in line for line in compiled)


def test_is_init_where_there_is_no_other(tmp_path):
    beside = _expand(tmp_path, "target")
    assert "/of/target/sbin/molt" in beside
    assert "ln -sfn molt" not in beside
    alone = _expand(tmp_path, "target", settings="BR2_INIT_NONE := y\nBR2_ROOTFS_MERGED_USR := y")
    assert "ln -sfn molt /of/target/usr/sbin/init" in alone
    assert "/of/target/usr/sbin/initctl" in alone
    assert "/of/staging/usr/include/molt-client.h" in _expand(tmp_path, "staging")


def test_the_kernel_has_what_the_documents_say(tmp_path):
    enabled = set(re.findall(r"enable (CONFIG_\w+)", _expand(tmp_path, "kernel")))
    text = (TREE / "docs/integrating.md").read_text()
    required = set(re.findall(r"CONFIG_\w+", text.split("with\n", 1)[1].split("\nand, for", 1)[0]))
    assert required and required <= enabled


def test_the_image_has_its_mount_points(tmp_path):
    target = tmp_path / "target"
    (target / "usr/lib/modules/6.12.0").mkdir(parents=True)
    (target / "usr/lib/modules/6.12.0/modules.dep").touch()
    (target / "run").symlink_to("/tmp")
    subprocess.run([EXTERNAL / "board/molt/post-build.sh", target], check=True)
    for name in ("proc", "sys", "dev", "run", "tmp", "var", "home"):
        assert (target / name).is_dir() and not (target / name).is_symlink(), name
    fstab = (EXTERNAL / "board/molt/overlay/etc/fstab").read_text()
    for line in fstab.splitlines():
        if not line.startswith("#"):
            assert (target / line.split()[1].lstrip("/")).is_dir(), line


def _dry_run(settings, *goals):
    """What make would run in the work tree; each setting has to be one that the Makefile knows."""
    makefile = (TREE / "Makefile").read_text()
    for setting in settings:
        name = setting.partition("=")[0]
        assert name == "DESTDIR" or re.search(rf"^{name} \?=", makefile, re.MULTILINE), name
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "BUILD", "ARCH"))}
    tools = {"CC": "/cross/cc --sysroot=/x", "AR": "/cross/ar", "PKG_CONFIG": "pkg-config", "CFLAGS": "-O2"}
    made = subprocess.run(["make", "-n", *settings, *goals], cwd=TREE, text=True, capture_output=True,
                          env=environment | tools)
    assert made.returncode == 0, made.stderr
    return made.stdout


def _assert_builds_and_installs(commands, build):
    compiled = [line for line in commands.splitlines() if f"-c -o {build}/obj/" in line]
    assert len(compiled) > 100 and all(line.startswith("/cross/cc --sysroot=/x ") for line in compiled)
    assert all("-Werror" not in line for line in compiled)
    assert any("kernel/inject_aarch64" in line for line in compiled)
    assert "/of/image/sbin/molt" in commands.replace("/of/image/usr/sbin", "/of/image/sbin")


def test_recipe_for_yocto():
    recipe = (TREE / "conf/yocto/recipes-core/molt/molt_0.1.0.bb").read_text().replace("\\\n", " ")
    values = {"prefix": "/usr", "base_sbindir": "/sbin", "libdir": "/usr/lib", "includedir": "/usr/include",
              "mandir": "/usr/share/man", "docdir": "/usr/share/doc", "WORKDIR": "/there", "MOLT_INIT_LINK": "yes",
              "MOLT_ARCH": re.search(r'^MOLT_ARCH:aarch64 = "(.*)"', recipe, re.MULTILINE).group(1)}
    options = re.search(r'^EXTRA_OEMAKE = "(.*)"', recipe, re.MULTILINE).group(1)
    for name, value in values.items():
        options = options.replace(f"${{{name}}}", value)
    assert "$" not in options
    commands = _dry_run([*options.split(), "DESTDIR=/of/image"], "all", "install")
    _assert_builds_and_installs(commands, "/there/build")
    assert "ln -sfn molt /of/image/sbin/init" in commands
    assert hashlib.md5((TREE / "LICENSE").read_bytes()).hexdigest() in recipe
    assert "0.1.0" == re.search(r"^VERSION := (.*)", (TREE / "Makefile").read_text(), re.MULTILINE).group(1)


def test_element_for_buildstream():
    element = (TREE / "conf/buildstream/molt.bst").read_text()
    options = element.split("make-args: >-\n", 1)[1]
    for name, value in {"prefix": "/usr", "sbindir": "/usr/sbin", "libdir": "/usr/lib", "mandir": "/usr/share/man",
                        "includedir": "/usr/include", "molt-arch": "arm64"}.items():
        options = options.replace(f"%{{{name}}}", value)
    assert "%" not in options and "molt-arch: arm64" in element
    commands = _dry_run([*options.replace('"', "").split(), "DESTDIR=/of/image"], "all", "install")
    _assert_builds_and_installs(commands, "for-target")
    assert "ln -sfn molt /of/image/usr/sbin/init" in commands
