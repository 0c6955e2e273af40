"""Which titles are usable: D3's rule to the letter, and mended."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.data.title_rules import apply_title_rule, merge_repeated

WORDS = " ".join(["w"] * 20)
CASES = {
    # Title -> D3's, None where it is unusable; and ours.
    "Heat": ("Heat", "Heat"),
    ' "Heat" ': ("Heat", "Heat"),
    '" Heat"': (" Heat", "Heat"),
    'A single 7"': ("A single 7", 'A single 7"'),
    "Tom &amp; &quot;Jerry": ('Tom & "Jerry', 'Tom & "Jerry'),
    "Caf&eacute; &#39;n&#x27;": ("Caf&eacute; &#39;n&#x27;", "Café 'n'"),
    "&amp;lt;b&amp;gt;Bold": ("&lt;b&gt;Bold", "Bold"),
    '<span id="x">Heat</span>': (None, "Heat"),
    '<span class="a-size-medium a-color': ('<span class="a-size-medium a-color', None),
    "I <3 Radio": ("I <3 Radio", "I <3 Radio"),
    "X": (None, None),
    '"X"': (None, None),
    "  ": (None, None),
    WORDS: (WORDS, WORDS),
    f"{WORDS} w": (None, None),
    WORDS.replace(" ", "  ", 1): (None, WORDS),
}


@pytest.mark.parametrize("title", CASES)
def test_titles_by_hand(title: str) -> None:
    for rule, expected in zip(("d3", "readable"), CASES[title], strict=True):
        cleaned, usable = apply_title_rule(pl.Series([title]), rule)  # type: ignore[arg-type]
        assert (cleaned[0] if usable[0] else None) == expected, rule


@given(st.lists(st.none() | st.text(st.sampled_from('ab <>&;"=/éspan'), max_size=30), max_size=8))
def test_cleaning_a_clean_title_changes_nothing_where_it_is_mended(titles: list[str | None]) -> None:
    column = pl.Series("title", titles, dtype=pl.String)
    cleaned, usable = apply_title_rule(column, "readable")
    again, still = apply_title_rule(cleaned, "readable")
    assert again.equals(cleaned)
    assert still.equals(usable)
    kept, present = apply_title_rule(column, "any")
    assert kept.equals(column)
    assert present.to_list() == [title is not None and bool(title.strip()) for title in titles]


def test_an_item_listed_several_times() -> None:
    items = pl.DataFrame(
        {"item_id": list("abcabb"), "title": ["Up", "It", "Her", "Jaws", "X", "Cube"], "shelf": [1, 2, 3, 4, 5, 6]}
    )
    assert merge_repeated(items, "d3").rows() == [("a", "Jaws", 1), ("b", None, 2), ("c", "Her", 3)]
    assert merge_repeated(items, "readable").rows() == [("a", "Jaws", 1), ("b", "Cube", 2), ("c", "Her", 3)]
