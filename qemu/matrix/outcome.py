# SPDX-License-Identifier: MIT
"""How a cell ended, and the three ways to show all of them: a table, JUnit's XML, a page."""

from __future__ import annotations

import enum
import html
import json
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from qemu.matrix import cells
from qemu.matrix.cells import ARCHITECTURES, KERNELS, ROOTS, SCENARIOS, Cell


class State(enum.Enum):
    """The values are what the table shows."""

    PASSED = "ok"
    REFUSED = "refused"  # as it has to be
    FAILED = "FAILED"
    NOT_YET = "not yet"
    SKIPPED = "skipped"  # this machine or the mirror lacks something


CONSOLE_CHARACTERS = 65536  # of each, in a report

GOOD = (State.PASSED, State.REFUSED)


@dataclass(frozen=True)
class Outcome:
    """`why` is for a person: empty if it passed."""

    cell: Cell
    state: State
    seconds: float = 0.0
    why: str = ""
    log: Path | None = None  # a directory


Key = Callable[[Cell], str]


def save(outcomes: Iterable[Outcome], path: Path, key: Key) -> None:
    """For load(): `key` says what the cell tested."""
    done = [{"cell": o.cell.name, "key": key(o.cell), "state": o.state.name, "seconds": o.seconds,
             "why": o.why, "log": str(o.log or "")} for o in outcomes]
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(json.dumps(done, indent=1))
    unfinished.rename(path)


def load(path: Path, key: Key) -> list[Outcome]:
    """Those of an earlier run that need not be run again: they were good, and of the same."""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    found = []
    for o in read:
        try:
            cell = cells.parse(o["cell"])
        except ValueError:
            continue  # there was such a cell once
        if State[o["state"]] in GOOD and o["key"] == key(cell):
            found.append(Outcome(cell, State[o["state"]], o["seconds"], o["why"],
                                 Path(o["log"]) if o["log"] else None))
    return found


def exit_code(outcomes: Iterable[Outcome]) -> int:
    return int(any(o.state is State.FAILED for o in outcomes))


def columns(of: Iterable[Cell]) -> list[tuple[str, str]]:
    """Of a table of those cells: architecture and kernel."""
    there = {(cell.architecture, cell.kernel) for cell in of}
    return [(a, k) for a in ARCHITECTURES for k in KERNELS if (a, k) in there]


def rows(of: Iterable[Cell]) -> list[tuple[str, str]]:
    """Scenario and root."""
    there = {(cell.scenario, cell.root) for cell in of}
    return [(s, r) for s in SCENARIOS for r in ROOTS if (s, r) in there]


def table(outcomes: Iterable[Outcome]) -> str:
    """Rows of scenario and root, columns of architecture and kernel; then what is to be said."""
    done = list(outcomes)
    known = {o.cell: o for o in done}
    names = columns(known)
    lines = [f"{'':<24}" + "".join(f"{f'{a} {k}':<16}" for a, k in names).rstrip()]
    for scenario, root in rows(known):
        shown = (known.get(Cell(a, k, root, scenario)) for a, k in names)
        lines.append(f"{f'{scenario} {root}':<24}" + "".join(f"{_word(o):<16}" for o in shown).rstrip())
    return "\n".join([*lines, "", *_remarks(done), summary(done)])


def summary(outcomes: Iterable[Outcome]) -> str:
    done = list(outcomes)
    counts = ((state.value, sum(o.state is state for o in done)) for state in State)
    return f"{len(done)} cells: " + ", ".join(f"{n} {word}" for word, n in counts if n)


def line(outcome: Outcome) -> str:
    """One cell in one line."""
    why = f": {outcome.why.splitlines()[0]}" if outcome.why else ""
    return f"{outcome.state.value:<8} {outcome.cell.name} ({outcome.seconds:.1f} s){why}"


def write_junit(outcomes: Iterable[Outcome], path: Path) -> None:
    """As Jenkins and GitLab read it: failures have what the consoles said with them."""
    done = list(outcomes)
    suite = xml.Element("testsuite", name="matrix", tests=str(len(done)),
                        failures=str(sum(o.state is State.FAILED for o in done)),
                        skipped=str(sum(o.state in (State.NOT_YET, State.SKIPPED) for o in done)),
                        time=f"{sum(o.seconds for o in done):.1f}")
    for o in done:
        where, _, name = o.cell.name.rpartition("/")
        case = xml.SubElement(suite, "testcase", classname=where.replace("/", "."), name=name,
                              time=f"{o.seconds:.1f}")
        if o.state is State.FAILED:
            failure = xml.SubElement(case, "failure", message=_printable(o.why.partition("\n")[0]))
            failure.text = _printable(o.why)
            xml.SubElement(case, "system-out").text = _printable(consoles(o))
        elif o.state not in GOOD:
            xml.SubElement(case, "skipped", message=_printable(f"{o.state.value}: {o.why}"))
    tree = xml.ElementTree(suite)
    xml.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def consoles(o: Outcome) -> str:
    """What each boot of it said, one after the other; of a very long one the end."""
    found = sorted(o.log.glob("console-*.log")) if o.log and o.log.is_dir() else []
    return "\n".join(f"==> {log.name} <==\n{log.read_text(errors='replace')[-CONSOLE_CHARACTERS:]}" for log in found)


def write_html(outcomes: Iterable[Outcome], path: Path) -> None:
    """A page beside the logs, which it links to."""
    done = list(outcomes)
    rows = "\n".join(_row(o, path.parent) for o in done)
    path.write_text(f"""<!doctype html>
<meta charset="utf-8"><title>molt: matrix</title>
<style>
body {{ font-family: sans-serif }} td, th {{ padding: .2em .8em; text-align: left; vertical-align: top }}
.FAILED {{ background: #fbb }} .ok, .refused {{ background: #dfd }} pre {{ margin: 0; white-space: pre-wrap }}
</style>
<h1>molt: matrix</h1><p>{html.escape(summary(done))}</p>
<pre>{html.escape(table(done))}</pre>
<table><tr><th>cell<th>state<th>seconds<th>why</tr>
{rows}
</table>
""")


def _row(o: Outcome, beside: Path) -> str:
    name = html.escape(o.cell.name)
    if o.log and o.log.is_dir():
        name = f'<a href="{html.escape(str(o.log.relative_to(beside)))}/">{name}</a>'
    said = ""
    if o.state is State.FAILED:
        said = f"<details><summary>serial console</summary><pre>{html.escape(_printable(consoles(o)))}</pre></details>"
    return (f'<tr class="{html.escape(o.state.value)}"><td>{name}<td>{html.escape(o.state.value)}'
            f"<td>{o.seconds:.1f}<td><pre>{html.escape(_printable(o.why))}</pre>{said}</tr>")


def _word(o: Outcome | None) -> str:
    if not o:
        return "-"
    return f"{o.state.value} {o.seconds:.0f}s" if o.state in (*GOOD, State.FAILED) else o.state.value


def _remarks(done: list[Outcome]) -> list[str]:
    """Failures one by one; what is not there, once for each reason."""
    said = [f"{line(o)}\n{'':<8} log: {o.log}/" for o in done if o.state is State.FAILED]
    for state in (State.NOT_YET, State.SKIPPED):
        reasons: dict[str, list[str]] = {}
        for o in done:
            if o.state is state:
                reasons.setdefault(o.why, []).append(o.cell.name)
        said += [f"{state.value}: {why}: {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
                 for why, names in reasons.items()]
    return [*said, ""] if said else []


def _printable(text: str) -> str:
    """A console says things that XML does not allow, escape sequences first of all."""
    return "".join(c for c in text if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd")
