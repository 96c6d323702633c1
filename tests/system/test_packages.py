# SPDX-License-Identifier: MIT
"""The Debian packages: they build of this tree, lintian has nothing to say, and each file is in the
package where somebody will look for it. `make stock` installs them into a Debian and boots it."""
import os
import pathlib
import subprocess

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

    client = _files(packages, "libmolt-client-dev")
    assert {"/usr/include/molt-client.h", "/usr/share/man/man3/molt-client.3.gz"} <= client.keys()
    assert any(name.endswith("/pkgconfig/molt-client.pc") for name in client)
    assert not molt.keys() & client.keys() - {name for name in molt if name.endswith("/")}


def test_the_services_that_systemd_would_start(tmp_path):
    """A machine whose init is replaced comes up with its own daemons, and with no one that was
    masked, or that is systemd's own."""
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    shipped = tmp_path / "usr/lib/systemd/system/multi-user.target.wants"
    for place, names in ((wants, ("ssh", "cron", "masked", "systemd-pstore", "getty@tty1")),
                         (shipped, ("dbus", "systemd-logind"))):
        place.mkdir(parents=True)
        for name in names:
            (place / f"{name}.service").symlink_to(f"/usr/lib/systemd/system/{name}.service")
    (wants / "backup.timer").symlink_to("/usr/lib/systemd/system/backup.timer")
    (wants.parent / "masked.service").symlink_to("/dev/null")
    made = subprocess.run([TREE / "debian/enabled-services", tmp_path], check=True, text=True,
                          capture_output=True).stdout
    assert made.splitlines()[-1] == "Services=cron.service dbus.service ssh.service"
