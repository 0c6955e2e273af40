"""Titles are cleaned, and no item is ever lost."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flr.catalogue.titles import MAX_CHARACTERS, build_catalogue, clean_title
from flr.errors import DataError

CLEANED = {
    "Toy Story (1995)": "Toy Story (1995)",
    "ALL CAPS stay": "ALL CAPS stay",
    "  two   blanks\tand\nlines ": "two blanks and lines",
    "Melissa &amp; Doug": "Melissa & Doug",
    "twice &amp;amp; thrice &amp;amp;amp; encoded": "twice & thrice & encoded",
    "30-1/3&quot; &#39;piece&#x27;": "30-1/3\" 'piece'",
    "AT&T and R&B; M&Ms": "AT&T and R&B; M&Ms",
    "Blue &Ouml;yster": "Blue Öyster",
    "Cafe\u0301": "Café",
    "zero\u200bwidth\ufeff and soft\u00adhyphen": "zerowidth and softhyphen",
    "family \U0001f469\u200d\U0001f467": "family \U0001f469\u200d\U0001f467",
    "bell\x07 rings": "bell rings",
    "<b>Bold</b> and H<sub>2</sub>O": "Bold and H2O",
    "one<br/>two<p>three</p>": "one two three",
    "&lt;i&gt;encoded&lt;/i&gt;": "encoded",
    "I <3 Music": "I <3 Music",
    "1 < 2 > 0": "1 < 2 > 0",
    "The <Untitled> Album": "The <Untitled> Album",
    '<span class="a-size-medium a-color-secondary a-text-normal': "",
    "Piano <script>var x = '<b>';</script> Man": "Piano Man",
    "Piano <!-- hidden --> Man": "Piano Man",
    ".a-size{ color: red } Piano Man": "Piano Man",
    "Piano Man var aPageStart = (new Date()).getTime();": "Piano Man",
    "Piano (function(f) { f(); })(x)": "Piano",
    "Functions and Variables": "Functions and Variables",
    "": "",
    " \u200b ": "",
}


@pytest.mark.parametrize(("raw", "cleaned"), CLEANED.items())
def test_cleaning(raw: str, cleaned: str) -> None:
    assert clean_title(raw) == cleaned


def test_long_titles_end_at_a_word() -> None:
    words = " ".join(["seven77"] * 40)
    assert clean_title(words) == " ".join(["seven77"] * 25)
    assert len(clean_title("x" * 500)) == MAX_CHARACTERS
    assert clean_title("x" * 150 + ", " + "y" * 100) == "x" * 150
    exact = "a" * 100 + " " + "b" * 99
    assert clean_title(exact) == exact


@given(st.text(st.sampled_from("ab <>/&;#3{}:.\n\u0301\u200bltampbrscriptvar=()function-!"), max_size=60) | st.text())
@example("&amp;lt;b&amp;gt;")
@example("<<b>b>")
def test_cleaning_twice_changes_nothing(raw: str) -> None:
    once = clean_title(raw)
    assert clean_title(once) == once
    assert once == once.strip()
    assert len(once) <= MAX_CHARACTERS
    once.encode()


def test_no_item_is_lost_and_equal_titles_share_a_leaf() -> None:
    items = pl.DataFrame(
        {
            "item_index": [0, 1, 2, 3, 4, 5],
            "item_id": ["a", "b", "c", "d", "e", "f"],
            "title": ["Rock &amp; Roll", None, "Jazz", "Rock & Roll", "<br>", "jazz"],
            "category": ["x", "y", "x", "y", "x", "y"],
        }
    )
    catalogue = build_catalogue(items)
    titles = ["Rock & Roll", "Untitled item b", "Jazz", "Rock & Roll", "Untitled item e", "jazz"]
    assert catalogue.titles.tolist() == titles
    assert catalogue.leaf.tolist() == [0, 1, 2, 0, 3, 4]
    assert catalogue.leaf_titles.tolist() == ["Rock & Roll", "Untitled item b", "Jazz", "Untitled item e", "jazz"]
    assert catalogue.item_ids.tolist() == ["a", "b", "c", "d", "e", "f"]
    assert catalogue.attributes is not None
    assert catalogue.attributes.columns == ["category"]


@given(st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=30))
def test_every_item_has_a_title_and_its_leaf_says_it(raw: list[str | None]) -> None:
    items = pl.DataFrame({"item_id": list(range(len(raw))), "title": pl.Series(raw, dtype=pl.String)})
    catalogue = build_catalogue(items)
    assert catalogue.n_items == len(raw)
    assert all(catalogue.titles)
    assert catalogue.leaf_titles[catalogue.leaf].tolist() == catalogue.titles.tolist()
    assert len(set(catalogue.leaf_titles)) == catalogue.n_leaves
    assert catalogue.attributes is None


def test_a_catalogue_whose_titles_are_all_equal_has_one_leaf() -> None:
    catalogue = build_catalogue(pl.DataFrame({"item_id": ["a", "b"], "title": ["Same", "Same "]}))
    assert (catalogue.n_items, catalogue.n_leaves) == (2, 1)


def test_no_items_is_an_error() -> None:
    with pytest.raises(DataError, match="no items to build a catalogue of"):
        build_catalogue(pl.DataFrame({"item_id": [], "title": []}))


def test_hostile_titles_take_no_time() -> None:
    # Processor time: other work on the machine does not count. Backtracking would take hours.
    start = time.process_time()
    for hostile in (
        "<a " * 5_000,
        "&" * 20_000,
        "{" * 20_000,
        "function" * 3_000,
        "<script>" * 2_000,
        *["a-" * 2_490 + "{a"] * 50,
        *["a{b:" + ";" * 4_900] * 50,
        *["function" + " " * 4_900] * 50,
    ):
        clean_title(hostile)
    assert time.process_time() - start < 10


def test_real_titles(shared_data: Path) -> None:
    catalogue = build_catalogue(pl.read_parquet(shared_data / "cds2015" / "items.parquet"))
    assert catalogue.n_items == 5_841
    assert catalogue.n_leaves == 5_405
    assert catalogue.titles[38] == "Untitled item 38"
    assert not any("<span" in title or "&amp;" in title for title in catalogue.leaf_titles)
