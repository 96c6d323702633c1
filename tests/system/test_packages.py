# SPDX-License-Identifier: MIT
"""The Debian packages: they build of this tree, lintian has nothing to say, and each file is in the
package where somebody will look for it. `make stock` installs them into a Debian and boots it."""
import os
import pathlib
import subprocess

import pytest

from machine import BUILD

TREE = pathlib.Path(__file__).resolve().parent.parent.parent

LINKS = {"init": "molt", "telinit": "initctl", "shutdown": "initctl", "reboot": "initctl",
         "halt": "initctl", "poweroff": "initctl"}


def _build(out):
    """Packed of what has been compiled already: compiling once more would take a minute."""
    made = subprocess.run(["make", "-C", TREE, "deb", "DEB_BUILT=yes", f"BUILD={BUILD}",
                           f"DEB={out}"], capture_output=True, text=True, env=_environment())
    assert made.returncode == 0, made.stdout + made.stderr


def _environment():
    """Without what the make around the tests has set for its own children."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}


def _files(directory, package):
    [deb] = directory.glob(f"{package}_*.deb")
    tar = subprocess.run(f"dpkg-deb --fsys-tarfile {deb} | tar -tv", shell=True, check=True,
                         capture_output=True, text=True).stdout
    files = {}
    for line in tar.splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        name, _, target = name.partition(" -> ")
        assert owner == "root/root"
        files[name.removeprefix(".")] = target or mode
    return files


def test_packages(tmp_path):
    out = tmp_path / "deb"
    _build(out)
    _assert_lintian_is_silent(out)
    _assert_files_are_where_they_are_looked_for(out)


def _assert_lintian_is_silent(packages):
    [changes] = packages.glob("*.changes")
    said = subprocess.run(["lintian", "--pedantic", "--display-info", "--fail-on",
                           "error,warning,info,pedantic", "--allow-root", changes],
                          capture_output=True, text=True)
    assert said.returncode == 0 and not said.stdout, said.stdout + said.stderr


def _assert_files_are_where_they_are_looked_for(packages):
    molt = _files(packages, "molt")
    assert {"/usr/sbin/molt", "/usr/sbin/initctl", "/etc/molt/init.conf",
            "/usr/share/man/man8/molt.8.gz", "/usr/share/man/man8/initctl.8.gz",
            "/usr/share/man/man5/init.conf.5.gz"} <= molt.keys()
    assert "/usr/sbin/init" not in molt, "the package that changes no boot changes the boot"

    sysv = _files(packages, "molt-sysv")
    links = {pathlib.Path(name).name: to for name, to in sysv.items()
             if name.startswith("/usr/sbin/") and name != "/usr/sbin/"}
    assert links == LINKS

    initramfs = _files(packages, "molt-initramfs")
    assert {f"/etc/kernel/{when}.d/molt-initramfs" for when in ("postinst", "postrm")} <= initramfs.keys()
    assert {"/usr/share/molt-initramfs/update", "/etc/default/molt-initramfs"} <= initramfs.keys()
    # The command is of the package that changes no boot.
    assert {"/usr/sbin/molt-initramfs", "/usr/share/man/man8/molt-initramfs.8.gz"} <= molt.keys()
    assert molt["/usr/sbin/molt-initramfs"].endswith("lib/molt/initramfs/molt-initramfs")
    assert "/usr/lib/molt/initramfs/molt-initramfs" in molt

    client = _files(packages, "libmolt-client-dev")
    assert {"/usr/include/molt-client.h", "/usr/share/man/man3/molt-client.3.gz"} <= client.keys()
    assert any(name.endswith("/pkgconfig/molt-client.pc") for name in client)
    assert not molt.keys() & client.keys() - {name for name in molt if name.endswith("/")}


UNITS = "usr/lib/systemd/system"


def _unit(root, name, text="[Service]\nExecStart=/bin/true\n"):
    path = root / UNITS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _enable(root, target, *names, at="etc/systemd/system"):
    wants = root / at / f"{target}.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for name in names:
        (wants / name).symlink_to(f"/{UNITS}/{name}")


def _debian(root):
    """A machine with a bit of everything."""
    for name in ("ssh", "cron", "masked", "mine", "systemd-pstore", "getty@", "wg-quick@", "dbus", "systemd-logind",
                 "systemd-timesyncd", "systemd-journald", "cups", "network-wait-online", "display", "rsyslog", "deep"):
        _unit(root, f"{name}.service")
    _unit(root, "graphical.target", "[Unit]\nRequires=multi-user.target\nWants=display.service\n")
    _unit(root, "cups.socket", "[Socket]\nListenStream=/run/cups.sock\n")
    _unit(root, "each.socket", "[Socket]\nListenStream=23\nAccept=yes\n")
    _unit(root, "other.socket", "[Socket]\nListenStream=24\nService=deep.service\n")
    _enable(root, "multi-user.target", "ssh.service", "cron.service", "masked.service", "mine.service", "gone.service",
            "getty@tty1.service", "wg-quick@wg0.service", "network-wait-online.service", "own.target")
    _enable(root, "own.target", "systemd-timesyncd.service", "multi-user.target")
    _enable(root, "multi-user.target", "dbus.service", "systemd-logind.service", at=UNITS)
    _enable(root, "sysinit.target", "systemd-pstore.service", "systemd-journald.service", at=UNITS)
    _enable(root, "sockets.target", "cups.socket", "each.socket", "other.socket", "systemd-creds.socket")
    _enable(root, "timers.target", "backup.timer")
    (root / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    (root / "etc/molt/system").mkdir(parents=True)
    (root / "etc/molt/system/mine.service").symlink_to("/dev/null")


def _enabled(root):
    made = subprocess.run([TREE / "debian/enabled-services", root], check=True, text=True, capture_output=True)
    *comments, section, services = made.stdout.splitlines()
    assert section == "[Boot]" and all(line.startswith("#") for line in comments)
    return comments, services.removeprefix("Services=").split()


def test_the_services_that_systemd_would_start(tmp_path):
    """A machine whose init is replaced comes up with its own daemons, and with none that was masked or
    removed, or that is of no use without systemd."""
    _debian(tmp_path)
    comments, services = _enabled(tmp_path)
    expected = ["cron", "cups", "dbus", "deep", "display", "ssh", "systemd-journald", "systemd-timesyncd", "wg-quick@wg0"]
    assert services == [f"{name}.service" for name in expected]
    assert comments[-1] == "# Timers, which molt has not: backup.timer"


def test_one_log_daemon_and_the_default_target(tmp_path):
    _debian(tmp_path)
    (tmp_path / "etc/systemd/system/syslog.service").symlink_to(f"/{UNITS}/rsyslog.service")
    (tmp_path / "etc/systemd/system/default.target").symlink_to(f"/{UNITS}/multi-user.target")
    _, services = _enabled(tmp_path)
    assert "systemd-journald.service" not in services
    assert "display.service" not in services and "ssh.service" in services


OWN = "/etc/molt/init.conf.d/10-debian.conf"


@pytest.fixture
def debian(machine):
    """A machine whose packages come and go: its first image can be written to."""
    machine.writable = ["one"]
    image = machine.images["one"]
    for name in ("enabled-services", "keep-services"):
        image.copy(TREE / "debian" / name, f"usr/share/molt-sysv/{name}")
    image.copy(TREE / "debian/lsb-hook", "usr/lib/lsb/init-functions.d/40-molt")
    image.write("usr/sbin/policy-rc.d", "#!/bin/sh\n[ ! -e /run/not-now ] || exit 101\n", 0o755)
    return machine.start()


def _install(machine, name):
    """What a package brings, and what its postinst does with deb-systemd-helper."""
    machine.path(f"/{UNITS}/{name}.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    wants = machine.path("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir(parents=True, exist_ok=True)
    (wants / f"{name}.service").symlink_to(f"/{UNITS}/{name}.service")


def _remove(machine, name):
    machine.path(f"/{UNITS}/{name}.service").unlink()


def _keep(machine, when="--again"):
    return machine.run("/usr/share/molt-sysv/keep-services", when).stdout


def _listed(machine):
    return machine.path(OWN).read_text().splitlines()[-1].removeprefix("Services=").split()


def test_services_come_and_go_with_their_packages(debian):
    _keep(debian, "--first")
    _install(debian, "one")
    _keep(debian)
    debian.wait_state("one")
    assert "one.service" in _listed(debian)
    debian.path("/run/not-now").touch()
    _install(debian, "two")
    _keep(debian)
    assert "two.service" in _listed(debian), "policy-rc.d has a say in the start alone"
    assert debian.initctl("status", "two", check=False).returncode != 0
    debian.path("/run/not-now").unlink()
    _remove(debian, "one")
    _keep(debian)
    assert "one.service" not in _listed(debian)
    debian.wait_state("one", "inactive")


def test_the_list_is_whose_who_takes_it(debian):
    _keep(debian, "--first")
    mine = "# mine\n[Boot]\nServices=\n"
    debian.path(OWN).write_text(mine)
    _install(debian, "one")
    for when in ("--again", "--first"):
        _keep(debian, when)
        assert debian.path(OWN).read_text() == mine
    debian.path(OWN).unlink()
    _keep(debian)
    assert not debian.path(OWN).exists()


def test_init_scripts_ask_molt(debian):
    """And do it themselves where there is no such service, or where it is the service that calls them."""
    script = "#!/bin/sh\nset -eu\n. /usr/lib/lsb/init-functions.d/40-molt\necho itself $1 >>/run/share/said\n"
    for name in ("one", "alone", "own"):
        path = debian.path(f"/etc/init.d/{name}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    _install(debian, "one")
    debian.run("/etc/init.d/one", "start")
    before = debian.unit("one")["main_pid"]
    debian.run("/etc/init.d/one", "restart")
    assert debian.unit("one")["main_pid"] != before
    debian.run("/etc/init.d/one", "try-restart")
    debian.run("/etc/init.d/one", "status")
    debian.run("/etc/init.d/one", "stop")
    assert debian.run("/etc/init.d/one", "status", check=False).returncode != 0
    debian.run("/etc/init.d/one", "try-restart")
    assert debian.unit("one")["state"] == "inactive"
    assert not (debian.share / "said").exists()
    debian.run("/etc/init.d/alone", "start")
    debian.path(f"/{UNITS}/own.service").write_text("[Service]\nType=oneshot\nExecStart=/etc/init.d/own restart\n")
    debian.initctl("start", "own")
    assert (debian.share / "said").read_text() == "itself start\nitself restart\n"


# molt-initramfs: each kernel's initramfs, and no other

NOTES = "#!/bin/sh\necho $0 $* >>/run/share/said\n"
WRITES = NOTES + "for last; do :; done; echo made >$last\n"


@pytest.fixture
def kernels(machine):
    """Two kernels and a third without modules, and what the hooks call, noting how."""
    machine.writable = ["one"]
    image = machine.images["one"]
    for source in (TREE / "debian/initramfs/kernel").glob("*/*"):
        image.copy(source, f"etc/kernel/{source.relative_to(TREE / 'debian/initramfs/kernel')}")
    image.copy(TREE / "debian/initramfs/update", "usr/share/molt-initramfs/update")
    image.copy(TREE / "debian/molt-initramfs.default", "etc/default/molt-initramfs")
    for version in ("6.1", "6.12", "none"):
        image.write(f"boot/vmlinuz-{version}", "")
    for version in ("6.1", "6.12"):
        image.write(f"usr/lib/modules/{version}/modules.dep", "")
    image.write("usr/local/sbin/molt-initramfs", WRITES, 0o755)
    image.write("etc/initramfs/post-update.d/loader", NOTES, 0o755)
    return machine.start()


def _said(machine):
    path = machine.share / "said"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [pathlib.Path(line.split()[0]).name + " " + " ".join(line.split()[1:]) for line in lines]


def _made(machine):
    return sorted(path.name for path in machine.path("/boot").glob("initrd*"))


def _kernel(machine, when, *argv, **environment):
    words = [f"{key}={value}" for key, value in environment.items()]
    return machine.run("env", *words, "run-parts", *[f"--arg={word}" for word in argv], f"/etc/kernel/{when}.d").stdout


def test_initramfs_of_each_kernel(kernels):
    kernels.run("/usr/share/molt-initramfs/update")
    assert _said(kernels) == [line for version in ("6.1", "6.12") for line in (
        f"molt-initramfs --quiet --kernel {version} --output /boot/initrd.img-{version}",
        f"loader {version} /boot/initrd.img-{version}")]
    assert _made(kernels) == ["initrd.img-6.1", "initrd.img-6.12"]


def test_initramfs_comes_and_goes_with_its_kernel(kernels):
    kernels.path("/etc/default/molt-initramfs").write_text('OPTIONS="--compress zstd"\n')
    _kernel(kernels, "postinst", "6.12", "/boot/vmlinuz-6.12")
    assert _said(kernels)[0] == "molt-initramfs --quiet --kernel 6.12 --compress zstd --output /boot/initrd.img-6.12"
    _kernel(kernels, "postinst", "6.1", "/boot/vmlinuz-6.1", DEB_MAINT_PARAMS="'configure' ''")
    assert _made(kernels) == ["initrd.img-6.1", "initrd.img-6.12"]
    # An upgrade of the kernel calls the hooks of the way out too.
    _kernel(kernels, "postrm", "6.1", "/boot/vmlinuz-6.1", DEB_MAINT_PARAMS="'upgrade' '6.1-2'")
    _kernel(kernels, "postrm", "6.12", "/boot/vmlinuz-6.12", DEB_MAINT_PARAMS="'remove'")
    assert _made(kernels) == ["initrd.img-6.1"]
    _said(kernels)
    _kernel(kernels, "postinst", "6.12", "/boot/vmlinuz-6.12", DEB_MAINT_PARAMS="'abort-remove'")
    _kernel(kernels, "postinst", "6.12", "/boot/vmlinuz-6.12", INITRD="No")
    assert _said(kernels) == []


@pytest.mark.parametrize("source,types,named", [("/dev/mapper/a", "lvm\npart\ndisk", "lvm"), ("/dev/md0", "raid1\ndisk", "raid1"),
                                                ("/dev/sda2[/@]", "part\ndisk", ""), ("10.0.0.1:/root", "", "a server")])
def test_no_initramfs_that_would_not_boot(kernels, source, types, named):
    """The one that is there stays, and the person hears why; unless it is for another machine."""
    for name, text in (("findmnt", f"case $* in *FSTYPE*) echo ext4 ;; *) echo '{source}' ;; esac"), ("lsblk", f"printf '{types}\\n'")):
        stub = kernels.path(f"/usr/local/sbin/{name}")
        stub.write_text(f"#!/bin/sh\n{text}\n")
        stub.chmod(0o755)
    done = kernels.run("/usr/share/molt-initramfs/update", check=False)
    assert (done.returncode != 0) == bool(named), done.stdout
    assert _made(kernels) == ([] if named else ["initrd.img-6.1", "initrd.img-6.12"])
    if named:
        assert f"lies on {named}" in done.stdout
        kernels.path("/etc/default/molt-initramfs").write_text("CHECK_ROOT=no\n")
        kernels.run("/usr/share/molt-initramfs/update", "6.1")
        assert _made(kernels) == ["initrd.img-6.1"]


def test_drop_ins_that_come_with_molt(machine):
    """They are taken without a word, and one of the same name in /etc takes their place."""
    image = machine.images["one"]
    names = set()
    for dropin in (TREE / "conf/units").glob("*.d/*.conf"):
        image.copy(dropin, f"usr/lib/molt/system/{dropin.relative_to(TREE / 'conf/units')}")
        names.add(dropin.parent.name.removesuffix(".service.d"))
    for name in names:
        image.service(name, "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n")
    image.write("etc/molt/system/cron.service.d/upgrade.conf", "[Upgrade]\nPolicy=keep\n")
    image.conf(services=[f"{name}.service" for name in names])
    machine.start()
    policies = {name: machine.unit(name)["policy"] for name in names}
    assert "conf:" not in machine.log(), machine.report()
    assert len(names) >= 11 and policies.pop("cron") == "keep"
    reexec = {"nginx", "haproxy", "ssh", "sshd"}
    assert policies == {name: "reexec" if name in reexec else "restart" for name in names - {"cron"}}
