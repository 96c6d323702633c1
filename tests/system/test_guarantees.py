# SPDX-License-Identifier: MIT
"""docs/guarantees.md names tests that exist."""
import pathlib
import re

import pytest

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs/guarantees.md"
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", PAGE.read_text())))


@pytest.mark.parametrize("file,test", NAMED, ids="::".join)
def test_is_there(file, test):
    text = (HERE / file).read_text()
    assert not test or re.search(rf"^def {test}\(", text, re.MULTILINE), f"{file} has no {test}"


def test_none_is_forgotten():
    assert len(NAMED) > 40
