"""The reference page of the public API is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from steer.registry.local_files import load_module

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.slow
def test_the_reference_page_is_what_the_docstrings_say() -> None:
    made = load_module(str(DOCS / "make_api.py")).reference()
    assert (DOCS / "api.md").read_text(encoding="utf-8") == made, "run: python docs/make_api.py"


def test_every_public_name_is_in_the_reference_with_a_word_on_it() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    entries = [entry.split("\n", 2) for entry in page.split("\n#### ")[1:]]
    assert len(entries) > 80
    empty = [name for name, *rest in entries if not "".join(rest).strip()]
    assert not empty
