"""Window, usable titles and core: a world of five people and ten titles whose answer is known by hand."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import DataError
from flr.prepare_config import PrepareConfig
from flr.records import SPLITS, TEST, TRAIN, VALID, Interactions, PreparedData

START = datetime(2016, 10, 1, tzinfo=UTC)
END = datetime(2018, 11, 1, tzinfo=UTC)
PEOPLE = ["p0", "p1", "p2", "p3", "p4"]
#: Title of B0 to B9 in the file: what D3 makes of it, and what we make.
TITLES = {
    "&quot;Heat&quot;": ("Heat", "Heat"),
    "Rock &amp;amp; Roll": ("Rock & Roll", "Rock & Roll"),
    "Caf&eacute;": ("Caf&eacute;", "Café"),
    " ".join(["word"] * 20): (" ".join(["word"] * 20),) * 2,
    **{name: (name, name) for name in ("Up", "It", "Her", "Jaws", "Alien", "Cube")},
}
UNUSABLE = ['<span id="productTitle">', "X", " ".join(["word"] * 21), None]


def day(item: int) -> datetime:
    """B0 is taken in the first moment of the window of 2016, B9 in the last of all."""
    return END if item == 9 else START + timedelta(days=item)


def reviews() -> list[tuple[str, str, datetime]]:
    """Rows grouped by item, as in the original files."""
    unusable = [(person, f"X{n}", day(4)) for n in range(len(UNUSABLE)) for person in reversed(PEOPLE)]
    core = [(person, f"B{item}", day(item)) for item in range(10) for person in PEOPLE]
    # The eighth item's rows stand the other way round: ties at the first cut are then told apart.
    core[40:45] = reversed(core[40:45])
    outside = [(p, f"B{i}", START - timedelta(seconds=1)) for p in PEOPLE for i in range(3)]
    outside += [(PEOPLE[0], "B5", END + timedelta(seconds=1))]
    # One person with four rows, one item with one: out of the core.
    thin = [("thin", f"B{item}", day(item)) for item in range(4)] + [("p0", "rare", day(5))]
    return [*unusable, *outside, *core, *thin]


def write(folder: Path, rows: list[tuple[str, str, datetime]]) -> Path:
    objects = [{"reviewerID": u, "asin": i, "unixReviewTime": int(t.timestamp()), "overall": 5.0} for u, i, t in rows]
    named = [*((f"B{n}", title) for n, title in enumerate(TITLES)), ("rare", "Rare")]
    meta = [{"asin": item, "title": title} for item, title in [*named, *((f"X{n}", t) for n, t in enumerate(UNUSABLE))]]
    for name, lines in (("Toys_5.json.gz", objects), ("meta_Toys.json.gz", [*meta, {"asin": "X3"}])):
        (folder / name).write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in lines).encode()))
    return folder / "Toys_5.json.gz"


def prepared(path: Path, **settings: Any) -> PreparedData:
    config = PrepareConfig.model_validate({"protocol": "latentr3", "widen_until_items": 8, **settings})
    return prepare(read(path, None, config), config)


def parts(data: PreparedData, item: str) -> dict[str, str]:
    sequences = data.sequences
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    rows = np.flatnonzero(data.items["item_id"].to_numpy()[sequences.item_index] == item)
    return {sequences.user_ids[users[row]]: SPLITS[sequences.split[row]] for row in rows}


@pytest.mark.parametrize("strict", [True, False])
def test_a_window_that_has_to_widen(tmp_path: Path, strict: bool) -> None:
    data = prepared(write(tmp_path, reviews()), strict_latentr3=strict)
    assert data.manifest["window"] == {
        "start": "2016-10",
        "end": "2018-11",
        "items_by_start": {"2017-10": 0, "2016-10": 10},
    }
    assert data.manifest["dropped"] == {
        "repeated_item_rows": 1,
        **({} if strict else {"duplicate_rows": 0}),
        "rows_outside_window": 16,
        "untitled_rows": 20,
        "untitled_items": 4,
        "k_core_rows": 5,
        "k_core_users": 1,
        "k_core_items": 1,
    }
    assert data.items["title"].to_list() == [title[0 if strict else 1] for title in TITLES.values()]
    assert data.items["item_id"].to_list() == [f"B{n}" for n in range(10)]
    assert (data.sequences.n_users, data.sequences.n_interactions) == (5, 50)
    # 45 targets, five a day: cuts after 36 and 40.
    counts = np.bincount(data.sequences.split)
    assert counts.tolist() == ([5, 36, 4, 5] if strict else [5, 35, 5, 5])
    # First of all kept rows are those of B0, in the order of the people, whatever stands before them in the file.
    expected = dict.fromkeys(PEOPLE, SPLITS[VALID]) | ({"p0": SPLITS[TRAIN]} if strict else {})
    assert parts(data, "B8") == expected
    assert parts(data, "B9") == dict.fromkeys(PEOPLE, SPLITS[TEST])


def test_ties_by_place_in_the_file_are_another_split(tmp_path: Path) -> None:
    data = prepared(write(tmp_path, reviews()), strict_latentr3=True, cut_ties="file")
    assert parts(data, "B8") == dict.fromkeys(PEOPLE, SPLITS[VALID]) | {"p4": SPLITS[TRAIN]}
    assert data.manifest["tie_break"].endswith("at the cuts: by place in the file")


def test_repeats_are_kept_to_the_letter_only(tmp_path: Path) -> None:
    path = write(tmp_path, [*reviews(), ("p0", "B4", day(4))])
    assert prepared(path, strict_latentr3=True).sequences.n_interactions == 51
    mended = prepared(path)
    assert (mended.sequences.n_interactions, mended.manifest["dropped"]["duplicate_rows"]) == (50, 1)


def test_titles_are_cleaned_once_per_window_to_the_letter(tmp_path: Path) -> None:
    path = write(tmp_path, reviews())
    once = prepared(path, strict_latentr3=True, window_start="2016-10").items["title"].to_list()
    assert once[:2] == ["Heat", "Rock &amp; Roll"]
    assert prepared(path, window_start="2016-10").items["title"].to_list()[:2] == ["Heat", "Rock & Roll"]


def test_the_widest_window_is_taken_though_it_is_poor(tmp_path: Path) -> None:
    data = prepared(write(tmp_path, reviews()), widen_until_items=50)
    assert data.manifest["window"]["start"] == "1996-10"
    assert list(data.manifest["window"]["items_by_start"].values()) == [0, *[10] * 21]


def test_nothing_in_the_window(tmp_path: Path) -> None:
    path = write(tmp_path, reviews())
    with pytest.raises(DataError, match="none of 91 rows is between window_start=2010-01 and window_end=2010-02 and"):
        prepared(path, window_start="2010-01", window_end="2010-02", widen_until_items=1)
    with pytest.raises(DataError, match=r"nothing is left of \d+ rows .* min_user_interactions=50"):
        prepared(path, min_user_interactions=50)


@pytest.mark.parametrize("catalogue", ["interacted", "listed"])
def test_rows_on_items_without_a_title_can_be_dropped_alone(catalogue: str) -> None:
    frame = pl.DataFrame({"user_id": list("uuuu"), "item_id": list("abca"), "timestamp": [1, 2, 3, 4]})
    items = pl.DataFrame({"item_id": list("abd"), "title": ["Anchor", " ", "Drum"]})
    settings = PrepareConfig.model_validate(
        {"missing_title": "drop", "catalogue": catalogue, "min_item_interactions": 1}
    )
    with pytest.raises(DataError, match="three rows"):
        prepare(Interactions(frame, items), settings)
    data = prepare(Interactions(pl.concat([frame, frame]), items), settings)
    assert data.items["item_id"].to_list() == (["a"] if catalogue == "interacted" else ["a", "d"])
    assert data.manifest["dropped"] == {"untitled_rows": 4, "untitled_items": 2}
    assert "window" not in data.manifest


def test_real_reviews_down_the_whole_road(shared_data: Path) -> None:
    """50 people are too few for a core of five, so that the thresholds are set to one; all else is the protocol's."""
    folder = shared_data / "raw-fixtures" / "amazon2018"
    one = {"min_user_interactions": 1, "min_item_interactions": 1, "widen_until_items": 60, "protocol": "latentr3"}
    data = {}
    for strict in (True, False):
        config = PrepareConfig.model_validate({**one, "strict_latentr3": strict})
        data[strict] = prepare(read(folder, None, config), config)
        dropped = data[strict].manifest["dropped"]
        out = sum(dropped.get(name, 0) for name in ("rows_outside_window", "untitled_rows", "duplicate_rows"))
        assert data[strict].sequences.n_interactions + out == 258
    with gzip.open(folder / "meta_Industrial_and_Scientific.json.gz", "rt") as file:
        titles = {one["asin"]: one.get("title", "") for one in map(json.loads, file)}
    with gzip.open(folder / "Industrial_and_Scientific_5.json.gz", "rt") as file:
        rows = [(one["reviewerID"], one["asin"], one["unixReviewTime"]) for one in map(json.loads, file)]
    kept = [
        (user, item, time)
        for user, item, time in rows
        if START.timestamp() <= time <= END.timestamp() and len(titles[item]) > 1 and titles[item].count(" ") < 20
    ]
    assert data[True].sequences.n_interactions == len(kept) == 193
    assert data[False].sequences.n_interactions == len(set(kept)) == 148
    assert len(data[True].items) == len(data[False].items) == len({item for _, item, _ in kept}) == 65
    assert data[True].manifest["window"]["start"] == "2016-10"
