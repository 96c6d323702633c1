# SPDX-License-Identifier: MIT
"""A private apt for one Debian suite: its own lists and cache, the machine's apt untouched.

The mirror is the machine's own (MOLT_MIRROR overrides it), and so are its Acquire settings: a
machine behind a proxy has it written there. The signatures are checked with Debian's keyring.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from qemu import child
from qemu.progress import say

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class PackageError(Exception):
    """The text says which suite or package could not be had, and why."""


def mirror() -> str:
    """The address of the Debian archive: MOLT_MIRROR, or what the machine's apt uses for itself."""
    chosen = os.environ.get("MOLT_MIRROR")
    if chosen:
        return chosen
    listed = _output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(COMPONENT)",
                      "Created-By: Packages"])
    for line in listed.splitlines():
        uri, _, rest = line.partition(" ")
        if rest == "Debian main" and "security" not in uri:
            return uri
    raise PackageError("apt knows no Debian mirror: run apt-get update, or set MOLT_MIRROR")


def acquire_settings() -> str:
    """The machine's Acquire settings (proxies, time-outs) as a configuration text."""
    dump = _output(["apt-config", "dump", "--format", '%F "%v";%n'])
    keep = re.compile(r"^Acquire::(http|https|ftp|Check-|Retries|Queue)", re.IGNORECASE)
    lines = [line for line in dump.splitlines() if keep.match(line) and '""' not in line]
    return "\n".join(['Acquire::Languages "none";', *lines, ""])


class Suite:
    """The packages of one suite, in a directory of their own."""

    def __init__(self, name: str, directory: Path, architecture: str = "amd64") -> None:
        self.name = name
        self.directory = directory
        self.architecture = architecture  # Debian's name of it
        self.config = directory / "apt.conf"

    def refresh(self, young: float = 0.0) -> str:
        """Fetches the lists if they are newer than ours; returns their date, "" if there are none. Ours
        are new enough if that was done less than `young` seconds ago.

        A mirror that cannot be reached is no failure while there are lists: what was cached from
        them is as good as it was yesterday.
        """
        self._lay_out()
        stamp = self.directory / "refreshed"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < young and (date := self._date()):
            return date
        run = child.run(["apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any"],
                        env=self._environment())
        date = self._date()
        if run.returncode != 0:
            if not date:
                raise PackageError(f"cannot fetch the lists of {self.name}: {run.stderr.strip()}")
            say(f"the lists of {self.name} could not be renewed; going on with those of {date}")
        else:
            stamp.touch()
        return date

    def depends(self, package: str) -> str:
        """The Depends field of a package's candidate version."""
        shown = _output(["apt-cache", "show", "--no-all-versions", package], self._environment())
        found = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        if not found:
            raise PackageError(f"{package} of {self.name} depends on nothing")
        return found.group(1)

    def version(self, package: str) -> str:
        """The version that would be downloaded."""
        shown = _output(["apt-cache", "show", "--no-all-versions", package], self._environment())
        found = re.search(r"^Version: (.*)$", shown, re.MULTILINE)
        if not found:
            raise PackageError(f"{self.name} has no package {package}")
        return found.group(1)

    def names(self, prefix: str) -> list[str]:
        """The packages whose names begin so."""
        return _output(["apt-cache", "pkgnames", prefix], self._environment()).split()

    def download(self, package: str, directory: Path) -> Path:
        """Fetches the .deb into the directory."""
        run = child.run(["apt-get", "download", "-q", package], env=self._environment(),
                        cwd=directory)
        files = sorted(directory.glob(f"{package}_*.deb"))
        if run.returncode != 0 or not files:
            raise PackageError(f"cannot download {package}: {run.stderr.strip()}")
        return files[-1]

    def _lay_out(self) -> None:
        for part in ("lists/partial", "cache/archives/partial", "parts"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        (self.directory / "status").touch()
        source = f"deb [signed-by={KEYRING}] {mirror()} {self.name} main\n"
        (self.directory / "sources.list").write_text(source)
        # Absolute paths for every file that apt would otherwise take from the machine. `_apt`, whom
        # root's apt becomes to download, cannot enter a work tree in someone's home.
        at = self.directory
        self.config.write_text(f'''APT::Architecture "{self.architecture}";
APT::Architectures "{self.architecture}";
Dir::State "{at}";
Dir::State::Lists "{at}/lists";
Dir::State::status "{at}/status";
Dir::Cache "{at}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::SourceList "{at}/sources.list";
Dir::Etc::SourceParts "{at}/parts";
Dir::Etc::Parts "{at}/parts";
Dir::Etc::Main "{at}/none";
Dir::Etc::Preferences "{at}/none";
Dir::Etc::PreferencesParts "{at}/parts";
APT::Sandbox::User "root";
{acquire_settings()}''')

    def _environment(self) -> dict[str, str]:
        return os.environ | {"APT_CONFIG": str(self.config), "LC_ALL": "C.UTF-8"}

    def _date(self) -> str:
        for release in (self.directory / "lists").glob("*Release"):
            found = re.search(r"^Date: (.*)$", release.read_text(errors="replace"), re.MULTILINE)
            if found:
                return found.group(1)
        return ""


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    run = child.run(command, env=environment)
    if run.returncode != 0:
        raise PackageError(f"{' '.join(command)}: {run.stderr.strip()}")
    return run.stdout
