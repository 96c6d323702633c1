# SPDX-License-Identifier: MIT
"""molt-image(8) and its commit hook: what an image is made of, and which one boots, whatever kills who is at it."""
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess

import pytest

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

pytestmark = pytest.mark.timeout(120)


class Disk:
    """A store with images, a boot partition, and the os-release of the image that runs."""

    def __init__(self, path, loader="molt"):
        self.path, self.loader = path, loader
        self.store, self.boot = path / "store", path / "boot"
        for directory in (self.store, self.boot, path / "bin"):
            directory.mkdir(parents=True)
        if loader == "extlinux":
            (self.boot / "extlinux").mkdir()
            self.extlinux.write_text(EXTLINUX)
        elif loader == "systemd-boot":
            (self.boot / "loader/entries").mkdir(parents=True)
            (self.boot / "loader/loader.conf").write_text("timeout 3\ndefault other\n")
        (path / "image.conf").write_text(f"# here\nStore={self.store}\nBoot={self.boot}\nLoader={loader}\nTries=2\n"
                                         "CommandLine=root=LABEL=state rootflags=subvol=images/@VERSION@ ro\n")
        (path / "bin/molt-image").symlink_to(TOOL)
        self.environment = {"PATH": f"{path}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "MOLT_IMAGE_CONF": f"{path}/image.conf",
                            "MOLT_IMAGE_LIBRARY": str(TOOL.parent), "MOLT_STORE": str(self.store),
                            "MOLT_OS_RELEASE": f"{path}/os-release"}

    @property
    def extlinux(self):
        return self.boot / "extlinux/extlinux.conf"

    def add(self, version):
        (self.store / version / "boot").mkdir(parents=True)
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


@pytest.fixture(params=LOADERS)
def disk(request, tmp_path):
    disk = Disk(tmp_path, request.param)
    for version in ("1", "2.0", "3"):
        disk.add(version)
    disk.commit("1")
    disk.is_good("1")
    return disk


def test_commit_flips_once(disk):
    """The default is the image of the hook; done twice it is done once; entries that are not ours stay."""
    assert disk.boots() == "1"
    disk.commit("2.0")
    after = disk.text()
    disk.commit("2.0")
    assert disk.text() == after
    assert disk.boots() == "2.0"
    assert disk.tool("list").splitlines() == ["1 previous", "2.0 running default 1-tries", "3"]
    if disk.loader != "molt":
        assert (disk.boot / "molt-2.0/linux").read_text() == "kernel 2.0\n"
        assert (disk.boot / "molt-2.0/initrd").read_text() == "initrd 2.0\n"
        assert any("rootflags=subvol=images/2.0 ro" in text for text in disk.text().values())
    if disk.loader == "extlinux":
        assert disk.extlinux.read_text().startswith("TIMEOUT 10\nLABEL rescue\n\tLINUX /rescue\nDEFAULT molt-2.0\n")


def test_boot_that_fails_falls_back(disk):
    """Two tries, then the previous image, for good; a boot that was good is not counted."""
    disk.commit("2.0")
    assert [disk.boots() for _ in range(4)] == ["2.0", "2.0", "1", "1"]
    disk.is_good("1")
    assert disk.boots() == "1" and "2.0 bad" in disk.tool("list")
    disk.commit("3")
    assert disk.boots() == "3"
    disk.is_good("3")
    assert [disk.boots() for _ in range(4)] == ["3"] * 4


def test_last_try_may_be_good(disk):
    disk.commit("2.0")
    assert [disk.boots(), disk.boots()] == ["2.0", "2.0"]
    disk.is_good("2.0")
    assert [disk.boots() for _ in range(3)] == ["2.0"] * 3
    assert "1 previous" in disk.tool("list")


def test_rollback_goes_back(disk):
    """The older image's hook after a rollback: it is the default, and what was left is not booted, not even as the
    previous one; committed again it is."""
    disk.commit("2.0")
    disk.is_good("2.0")
    disk.commit("3")
    disk.commit("2.0", rollback=True)
    assert disk.boots() == "2.0"
    assert disk.tool("list").splitlines() == ["1 previous", "2.0 running default", "3 bad"]
    disk.commit("3")
    assert disk.boots() == "3"


def test_collect_keeps_three(disk):
    """The running image, the default and the previous one stay; so does everything while nothing is committed."""
    for version in ("4", "5"):
        disk.add(version)
    disk.commit("2.0")
    disk.is_good("2.0")
    disk.commit("3")
    disk.runs("5")
    assert disk.tool("collect", "--dry-run") == "1 would be removed\n4 would be removed\n"
    assert disk.tool("collect") == "1 removed\n4 removed\n"
    assert sorted(p.name for p in disk.store.iterdir() if p.is_dir()) == ["2.0", "3", "5"]
    assert not any("molt-1" in name or "molt-1\n" in text for name, text in disk.text().items())
    assert disk.tool("collect") == "" and disk.boots() == "3"
    (disk.path / "os-release").write_text("ID=x\n")
    assert "is not known" in disk.tool("collect", code=1)


@pytest.mark.parametrize("loader", LOADERS)
def test_killed_at_any_moment(loader, tmp_path):
    """SIGKILL at whatever point of the hook: what boots is one of the two images, whole; the hook done again ends it."""
    disk = Disk(tmp_path, loader)
    for version in ("1", "2"):
        disk.add(version)
        disk.commit(version)
        disk.is_good(version)
    chance = random.Random(1)
    killed = 0
    for round_ in range(14):
        other = "12"[round_ % 2]
        disk.runs(other)
        shutil.rmtree(disk.boot / f"molt-{other}", ignore_errors=True)
        hook = subprocess.Popen([str(HOOK)], env=disk.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                start_new_session=True)
        try:
            hook.wait(chance.uniform(0.005, 0.12))
        except subprocess.TimeoutExpired:
            killed += 1
        try:
            os.killpg(hook.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        hook.wait()
        assert disk.boots() in ("1", "2")
        if loader == "extlinux":
            assert disk.extlinux.read_text().count("\tAPPEND ") == 2, disk.extlinux.read_text()
        for _, _, version, file in disk.entries():
            assert f"/molt-{version}/linux\n" in file.read_text() and "\nsort-key molt-" in file.read_text()
        disk.commit(other)
        assert disk.boots() == other
        assert not list(disk.boot.rglob("*.new")) and len(disk.entries() if loader == "systemd-boot" else "12") == 2
    assert killed > 3, "the hook was always faster: nothing was tested"


def test_what_cannot_be_is_refused_whole(tmp_path):
    """No kernel, no image, no store: a sentence, and no boot default is touched."""
    disk = Disk(tmp_path, "extlinux")
    disk.add("1")
    (disk.store / "1/boot/vmlinuz").unlink()
    before = disk.extlinux.read_text()
    assert "no kernel to make one of" in disk.tool("default", "1", code=1)
    assert "there is no image 2" in disk.tool("default", "2", code=1)
    assert "is no version" in disk.tool("default", "../x", code=2)
    assert disk.extlinux.read_text() == before
    disk.commit("7")  # a system whose image is not in the store is left alone
    assert disk.extlinux.read_text() == before
    shutil.rmtree(disk.store)
    disk.commit("1")
    assert "there is no image store" in disk.tool("list", code=1)


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    for directory in ("usr/sbin", "usr/bin", "usr/lib/modules/6.1", "etc/ssh", "etc/molt", "run", "var/lib/systemd"):
        (tree / directory).mkdir(parents=True)
    for link in ("sbin", "bin", "lib"):
        (tree / link).symlink_to(f"usr/{link}")
    for program in ("usr/sbin/molt", "usr/bin/initctl"):
        shutil.copy("/bin/true", tree / program)
    (tree / "usr/sbin/init").symlink_to("/sbin/molt")  # a link that means the tree's root
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    for name, text in {"usr/lib/os-release": "ID=x\n", "usr/lib/modules/6.1/modules.dep": "", "etc/machine-id": "abc\n",
                       "etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "public",
                       "run/left": "over", "var/lib/systemd/random-seed": "seed", "etc/fstab": "LABEL=x /srv/data ext4\n",
                       "etc/molt/init.conf": "[Upgrade]\nCarry=/etc/machine-id /etc/ssh/ssh_host_*_key\n"}.items():
        (tree / name).write_text(text)
    return tree


def make(tree, out, *more, code=0, version="7", **environment):
    ran = subprocess.run([TOOL, "make", "--root", tree, "--version", version, "--out", out, *more], text=True,
                         capture_output=True, env={"PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"} | environment)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def assert_is_image(root):
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/ssh/ssh_host_rsa_key").read_bytes() == b"", "a file that Carry= brings has its place"
    assert not (root / "etc/ssh/ssh_host_rsa_key.pub").exists() and not (root / "var/lib/systemd/random-seed").exists()
    assert not list((root / "run").iterdir())
    for place in ("proc", "sys", "dev", "tmp", "var", "home", "srv/data"):
        assert (root / place).is_dir()
    assert (root / "usr/lib/os-release").read_text() == "ID=x\nIMAGE_VERSION=7\n"


@pytest.mark.parametrize("kind", ["squashfs", "erofs", "ext4"])
def test_make_and_verify(tree, tmp_path, kind):
    """Nothing of the machine is in it, the tree is as it was, and one bit that flips is found."""
    store = tmp_path / "store"
    for directory in (store, tmp_path / "again", tmp_path / "at"):
        directory.mkdir()
    make(tree, store / f"7.{kind}", "--verity", SOURCE_DATE_EPOCH="1700000000")
    assert (tree / "etc/machine-id").read_text() == "abc\n" and (tree / "run/left").exists()
    assert sorted(p.name for p in store.iterdir()) == [f"7.{kind}{s}" for s in ("", ".roothash", ".sha256", ".verity")]
    if kind != "ext4":
        make(tree, tmp_path / f"again/7.{kind}", SOURCE_DATE_EPOCH="1700000000")
        assert (tmp_path / f"again/7.{kind}").read_bytes() == (store / f"7.{kind}").read_bytes()
    subprocess.run(["mount", "-o", "ro,loop", store / f"7.{kind}", tmp_path / "at"], check=True)
    try:
        assert_is_image(tmp_path / "at")
    finally:
        subprocess.run(["umount", tmp_path / "at"], check=True)
    verify = [TOOL, "verify", "7"]
    assert subprocess.run(verify, env=os.environ | {"MOLT_STORE": str(store)}).returncode == 0
    data = bytearray((store / f"7.{kind}").read_bytes())
    data[-100] ^= 1
    (store / f"7.{kind}").write_bytes(data)
    assert subprocess.run(verify, env=os.environ | {"MOLT_STORE": str(store)}, capture_output=True).returncode == 1


def test_make_a_subvolume(tree, tmp_path):
    disk, at = tmp_path / "disk", tmp_path / "at"
    at.mkdir()
    with disk.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, at], check=True)
    try:
        make(tree, at / "7", "--format=btrfs")
        make(tree, at / "8", "--format=btrfs", version="8")
        assert_is_image(at / "7")
        with pytest.raises(OSError):
            (at / "7/written").touch()
        assert sorted(p.name for p in at.iterdir()) == ["7", "8"]
        (tmp_path / "os-release").write_text("IMAGE_VERSION=8\n")
        environment = os.environ | {"MOLT_STORE": str(at), "MOLT_OS_RELEASE": str(tmp_path / "os-release"),
                                    "MOLT_CONTROL": "/nonexistent"}
        for words in (("verify", "7"), ("default", "8"), ("collect",)):
            subprocess.run([TOOL, *words], check=True, env=environment)
        assert sorted(p.name for p in at.iterdir()) == [".lock", "8", "boot"]
    finally:
        subprocess.run(["umount", at], check=True)


def test_what_is_no_system_is_no_image(tree, tmp_path):
    (tree / "usr/bin/initctl").unlink()
    (tree / "usr/lib/modules/6.1/modules.dep").unlink()
    (tree / "usr/sbin/molt").chmod(0o644)
    said = make(tree, tmp_path / "x.erofs", code=1)
    for what in ("no /sbin/init", "no initctl", "no kernel modules"):
        assert what in said
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]
    assert "--format is" in make(tree, tmp_path / "x.iso", code=2)
