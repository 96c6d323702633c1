# SPDX-License-Identifier: MIT
"""A store of images and a boot partition, and what boots of them: for the tests of molt-image(8)."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = REPOSITORY / "conf/image/molt-image"
HOOK = REPOSITORY / "conf/hooks/commit.d/50-boot-default"
GOOD = REPOSITORY / "conf/hooks/boot-good.d/50-boot-good"
LOADERS = ("molt", "extlinux", "systemd-boot")
EXTLINUX = """TIMEOUT 10
LABEL rescue
\tLINUX /rescue
DEFAULT rescue
"""

# Stands for each command that changes a disk: notes it, and does it; the one of that number is where
# everything is killed. What is flushed is only noted: the disk of the tests is not asked to.
STEP = """#!/bin/sh
echo "${{0##*/}} $*" >>{path}/steps
if [ "${{STOP_AT:-}}" ] && [ $(wc -l <{path}/steps) -ge $STOP_AT ]; then kill -KILL 0; fi
if [ ${{0##*/}} = sync ]; then exit 0; fi
PATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${{0##*/}} "$@"
"""
STEPS = ("cp", "mkdir", "mv", "rm", "rmdir", "sync")


@contextlib.contextmanager
def small_disk(path, size="128k"):
    """A disk, with a function that leaves so many pages of it."""
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)

    def leave(pages):
        (path / "filler").unlink(missing_ok=True)
        free = os.statvfs(path).f_bfree
        (path / "filler").write_bytes(b"x" * 4096 * (free - pages))
    try:
        yield leave
    finally:
        subprocess.run(["umount", path], check=True)


class Disk:
    """A store with images, a boot partition, and the os-release of the image that runs."""

    def __init__(self, path, loader="molt", programs=()):
        self.path, self.loader = path, loader
        self.store, self.boot = path / "store", path / "boot"
        for directory in (self.store, self.boot, path / "bin"):
            directory.mkdir(parents=True, exist_ok=True)
        if loader == "extlinux":
            (self.boot / "extlinux").mkdir()
            self.extlinux.write_text(EXTLINUX)
        elif loader == "systemd-boot":
            (self.boot / "loader/entries").mkdir(parents=True)
            (self.boot / "loader/loader.conf").write_text("timeout 3\ndefault other\n")
        (path / "image.conf").write_text(f"# here\nStore={self.store}\nBoot={self.boot}\nLoader={loader}\nTries=2\n"
                                         "CommandLine=root=LABEL=state rootflags=subvol=images/@VERSION@ ro\n")
        (path / "bin/molt-image").symlink_to(TOOL)
        for name in (*STEPS, *programs):
            (path / "bin" / name).write_text(STEP.format(path=path))
            (path / "bin" / name).chmod(0o755)
        self.environment = {"PATH": f"{path}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "MOLT_IMAGE_CONF": f"{path}/image.conf",
                            "MOLT_IMAGE_LIBRARY": str(TOOL.parent), "MOLT_STORE": str(self.store),
                            "MOLT_OS_RELEASE": f"{path}/os-release"}

    @property
    def extlinux(self):
        return self.boot / "extlinux/extlinux.conf"

    def add(self, version):
        (self.store / version / "boot").mkdir(parents=True)
        (self.store / version / "etc").mkdir()
        (self.store / version / "etc/os-release").write_text(f"IMAGE_VERSION={version}\n")
        (self.store / version / "boot/vmlinuz").write_text(f"kernel {version}\n")
        (self.store / version / "boot/initrd.img").write_text(f"initrd {version}\n")

    def runs(self, version):
        (self.path / "os-release").write_text(f"ID=x\nIMAGE_VERSION={version}\n")

    def command(self, *words, **more):
        return subprocess.run(words, env=self.environment | more, capture_output=True, text=True)

    def tool(self, *words, code=0, **more):
        ran = self.command(str(TOOL), *words, **more)
        assert ran.returncode == code, f"{words}: {ran.returncode} {ran.stdout}{ran.stderr}"
        return ran.stdout + (ran.stderr if code else "")

    def commit(self, version, rollback=False):
        """As the hook of that image, which runs now."""
        self.runs(version)
        ran = self.command(str(HOOK), **({"MOLT_ROLLBACK": "yes"} if rollback else {}))
        assert ran.returncode == 0, ran.stderr

    def steps(self):
        """What was done to the disk since the last time somebody asked."""
        file = self.path / "steps"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def save(self):
        """What restore() brings back: the store, the boot partition, and which image runs."""
        shutil.copytree(self.path, f"{self.path}.saved", symlinks=True)

    def restore(self):
        for name in ("store", "boot"):
            shutil.rmtree(self.path / name)
            shutil.copytree(f"{self.path}.saved/{name}", self.path / name)
        shutil.copy(f"{self.path}.saved/os-release", self.path)

    def killed_at(self, step, words, **more):
        """SIGKILL before that step; False if it was over by then."""
        self.steps()
        ran = subprocess.Popen(words, env=self.environment | more | {"STOP_AT": str(step)}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
        return ran.wait(60) == -signal.SIGKILL

    def entries(self):
        """The entries in the order of systemd-boot: what has no try left is last, then by sort-key."""
        found = []
        for file in (self.boot / "loader/entries").glob("molt-*.conf"):
            version, left = re.fullmatch(r"molt-([^+]+?)(?:\+(\d+)(?:-\d+)?)?\.conf", file.name).groups()
            key = re.search(r"^sort-key (.*)$", file.read_text(), re.MULTILINE)
            found.append((left == "0", key.group(1) if key else "~", version, file))
        return sorted(found)

    def boots(self):
        """Boots once as the boot loader would, and counts where it does; which image that is."""
        if self.loader == "molt":
            return pathlib.Path(self.tool("choose").strip()).name
        if self.loader == "extlinux":
            default, = re.findall(r"^DEFAULT molt-(.*)$", self.extlinux.read_text(), re.MULTILINE)
            assert self.extlinux.read_text().count(f"LABEL molt-{default}\n") == 1
            self.runs(default)
            self.tool("count")
            return default
        assert (self.boot / "loader/loader.conf").read_text() == "default molt-*\ntimeout 3\n"
        bad, _, version, file = self.entries()[0]
        assert not bad
        if counted := re.search(r"\+(\d+)(?:-(\d+))?\.conf$", file.name):
            left, done = int(counted[1]) - 1, int(counted[2] or 0) + 1
            file.rename(file.with_name(f"molt-{version}+{left}-{done}.conf"))
        return version

    def is_good(self, version):
        self.runs(version)
        assert self.command(str(GOOD)).returncode == 0

    def text(self):
        """All that decides what boots."""
        files = sorted(p for p in [self.store / "boot", *self.boot.rglob("*")] if p.is_file())
        return {str(f): f.read_text() for f in files}
