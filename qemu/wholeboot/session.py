# SPDX-License-Identifier: MIT
"""A machine that is being booted, the agent in it, and a person in front of its console."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from qemu.guest import Guest
from qemu.machine import Machine, MachineError
from qemu.wholeboot.root import PASSWORD

# Everything is emulated, and a loaded machine emulates at a fifth of its pace.
PATIENCE = 400.0
PROMPT = "lab$ "
TRIES = 20


@dataclass
class Session:
    vm: Machine
    guest: Guest

    def hear(self, text: str) -> None:
        self.vm.console.expect(text, PATIENCE)

    def type(self, line: str) -> None:
        self.vm.console.type(line)

    def log_in(self) -> None:
        """At the getty of the console, as root."""
        self.hear("login: ")
        self.type("root")
        self.hear("Password: ")
        self.type(PASSWORD)
        self.hear(PROMPT)

    def maintenance(self, password: str, answer: str) -> None:
        """Answers sulogin, which throws away what was typed before it reads, and says nothing when that
        is: so once more if there is no answer."""
        self.hear("(or press Control-D to continue): ")
        for _ in range(TRIES):
            self.type(password)
            try:
                self.vm.console.expect(answer, PATIENCE / TRIES)
                return
            except MachineError:
                pass
        raise self.vm.failure(f"sulogin does not answer {answer!r}")

    def wait_up(self) -> None:
        """Until the agent of this boot has said hello, after those of the boots before."""
        self.guest.wait_hello(self.hellos + 1, PATIENCE)
        self.hellos = self.guest.hellos

    hellos: int = 0

    def run(self, script: str) -> str:
        return self.guest.check(script, PATIENCE)

    def is_so(self, facts: dict[str, str]) -> None:
        """All of these scripts succeed; else it is said which do not, by what they stand for."""
        script = "".join(f"({command}) >/tmp/said 2>&1 || {{ echo {quote(name)}: not so; cat /tmp/said; }}\n"
                         for name, command in facts.items())
        said = self.run(script)
        if said:
            raise self.vm.failure(said)

    def wait_off(self, reason: str) -> None:
        came = self.vm.wait_off(PATIENCE)
        assert came == reason, f"the machine ended by {came}, not by {reason}"
