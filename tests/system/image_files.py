# SPDX-License-Identifier: MIT
"""Images that are files: a small system in a directory, and file systems made of it."""
import os
import pathlib
import re
import shutil
import subprocess

from machine import BUILD

PROGRAMS = ("sh", "sed", "cat", "echo", "sleep", "ls", "stat", "touch", "mkdir", "mount", "umount", "readlink", "unshare", "true")
PLACES = ("proc", "sys", "dev", "run", "tmp", "var", "home", "root", "new", "mnt", "etc/molt/system", "usr/bin", "usr/sbin",
          "usr/lib", "usr/lib64")


def libraries(program):
    """Every file that the loader opens for it, and itself the loader."""
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/[^\s()]+)", shown)


def add(tree, source, target=None):
    place = tree / str(target or source).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy2(source, place)


def small_tree(directory, version):
    """A root with molt, a shell and what tests run in it. Paths as on a merged /usr."""
    tree = pathlib.Path(directory)
    for place in PLACES:
        (tree / place).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to("usr/" + name)
    add(tree, BUILD / "molt", "usr/sbin/init")
    add(tree, BUILD / "initctl", "usr/bin/initctl")
    programs = [shutil.which(name) for name in PROGRAMS]
    for program in filter(None, programs):
        add(tree, program, "usr/bin/" + pathlib.Path(program).name)
    for program in (BUILD / "molt", BUILD / "initctl", *filter(None, programs)):
        for library in libraries(program):
            add(tree, os.path.realpath(library), library if library.startswith("/usr/") else "/usr" + library)
    (tree / "usr/lib/modules" / os.uname().release).mkdir(parents=True)
    files = {"etc/os-release": f'PRETTY_NAME="Image {version}"\nVERSION_ID="{version}"\n', "etc/fstab": "",
             "etc/hostname": "molt-test\n", "etc/molt/init.conf": "[Upgrade]\nRollbackWindowSec=0\n"}
    for name, text in files.items():
        (tree / name).write_text(text)
    return tree


def ext4(tree, image):
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), "64M"], check=True)


def squashfs(tree, image):
    subprocess.run(["mksquashfs", str(tree), str(image), "-quiet", "-no-progress", "-noappend", "-comp", "gzip"], check=True,
                   stdout=subprocess.DEVNULL)


def erofs(tree, image):
    subprocess.run(["mkfs.erofs", "--quiet", str(image), str(tree)], check=True, stdout=subprocess.DEVNULL)


def btrfs(tree, image):
    """With the system in its default subvolume."""
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["/sbin/mkfs.btrfs", "-q", "--rootdir", str(tree), str(image)], check=True, stdout=subprocess.DEVNULL)


def xfs(tree, image):
    """Its own tool takes no tree: mounted where nobody sees it."""
    with open(image, "wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["/sbin/mkfs.xfs", "-q", str(image)], check=True)
    subprocess.run(["unshare", "-m", "sh", "-c", 'mount -o loop "$2" /mnt && cp -a "$1/." /mnt && umount /mnt', "xfs",
                    str(tree), str(image)], check=True)


MAKERS = {"ext4": ext4, "squashfs": squashfs, "erofs": erofs, "btrfs": btrfs, "xfs": xfs}


def loops_of(*images):
    """The loop devices whose backing file is one of these, by device and inode: paths say little elsewhere."""
    wanted = {(os.stat(image).st_dev, os.stat(image).st_ino) for image in images}
    found = []
    shown = subprocess.run(["/sbin/losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-MAJ:MIN,BACK-INO"],
                           capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        name, device, inode = line.replace(r"\x20", "").split()
        number = os.makedev(*map(int, device.split(":")))
        if (number, int(inode)) in wanted:
            found.append(name)
    return found
