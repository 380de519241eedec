"""The code that the docs show, so that tests can run it."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def code_in(page: str, heading: str, language: str = "python") -> str:
    """The first block of a language below a heading of a page of docs/."""
    text = (DOCS / page).read_text(encoding="utf-8")
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    block = re.search(rf"^```{language}\n(.*?)^```", below, re.DOTALL | re.MULTILINE)
    assert block, f"no {language} below {heading!r} in {page}"
    return block[1]
