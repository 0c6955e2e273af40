"""Edits of a catalogue: whole or not at all, and what is wrong with them is said item by item."""

from __future__ import annotations

import polars as pl
import pytest

from flr.catalogue.editing import read_items, with_items, without_items
from flr.catalogue.lookup import ItemLookup
from flr.catalogue.titles import build_catalogue
from flr.errors import ColumnError, DataError, FlrError
from flr.records import Catalogue


def films() -> Catalogue:
    return build_catalogue(
        pl.DataFrame(
            {
                "item_id": ["a", "b", "c", "d"],
                "title": ["Alien (1979)", "Heat (1995)", "Heat (1995)", "Brazil (1985)"],
                "genre": ["Sci-Fi", "Crime", None, "Sci-Fi"],
                "year": [1979, 1995, 1995, 1985],
            }
        )
    )


def added(catalogue: Catalogue, items: object) -> Catalogue:
    return with_items(catalogue, read_items(items), ItemLookup(catalogue).index_of_id)[0]  # type: ignore[arg-type]


def test_new_items_are_appended_and_old_ones_keep_their_place() -> None:
    edited = added(films(), [{"item_id": 7, "title": " The  <b>Fly</b> (1986)", "year": "1986"}])
    assert edited.item_ids.tolist() == ["a", "b", "c", "d", "7"]
    assert edited.titles[4] == "The Fly (1986)"
    assert edited.attributes is not None
    assert edited.attributes.row(4) == (None, 1986)
    assert edited.attributes[:4].equals(films().attributes)
    assert edited.retired is None


def test_a_frame_and_records_ask_the_same() -> None:
    records = [{"item_id": "x", "title": "X (2000)", "genre": "War"}, {"item_id": "y", "title": "Heat (1995)"}]
    by_records, by_frame = added(films(), records), added(films(), pl.DataFrame(records))
    assert by_records.titles.tolist() == by_frame.titles.tolist()
    assert by_records.leaf.tolist() == by_frame.leaf.tolist()
    assert by_records.leaf[5] == by_records.leaf[1]
    assert by_records.attributes is not None
    assert by_records.attributes.equals(by_frame.attributes)


def test_titles_that_can_be_recommended_are_the_first_leaves() -> None:
    edited = without_items(films(), ItemLookup(films()).indices(["a", "b"], "remove"))
    assert edited.leaf_titles.tolist() == ["Heat (1995)", "Brazil (1985)", "Alien (1979)"]
    assert edited.n_leaves == 2
    assert edited.leaf.tolist() == [2, 0, 0, 1]
    assert edited.n_items == 4


def test_a_removed_item_comes_back_at_its_place_with_what_it_is_given() -> None:
    gone = without_items(films(), ItemLookup(films()).indices(["a", "d"], "remove"))
    back = added(gone, [{"item_id": "a", "title": "Alien: Director's Cut (2003)", "year": 2003}])
    assert back.item_ids.tolist() == ["a", "b", "c", "d"]
    assert back.titles[0] == "Alien: Director's Cut (2003)"
    assert back.retired is not None
    assert back.retired.tolist() == [False, False, False, True]
    assert back.attributes is not None
    assert back.attributes.row(0) == (None, 2003)
    assert added(back, [{"item_id": "d", "title": "Brazil (1985)"}]).retired is None


def test_an_item_has_what_it_would_have_alone_whatever_it_comes_with() -> None:
    shop = build_catalogue(pl.DataFrame({"item_id": ["a"], "title": ["A"], "year": ["1990"], "tags": [["x"]]}))
    values = [1986, 1985.5, True, "1986", None]
    items = [{"item_id": f"n{n}", "title": "T", "year": value, "tags": [value]} for n, value in enumerate(values)]
    together = added(shop, items).attributes
    assert together is not None
    assert together["year"][1:].to_list() == ["1986", "1985.5", "true", "1986", None]
    for n, item in enumerate(items):
        alone = added(shop, [item]).attributes
        assert alone is not None
        assert alone.row(1) == together.row(1 + n)


def test_whole_numbers_may_be_written_in_another_way() -> None:
    edited = added(films(), [{"item_id": f"n{n}", "title": "T", "year": year} for n, year in enumerate([1, 2.0, "3"])])
    assert edited.attributes is not None
    assert edited.attributes["year"][4:].to_list() == [1, 2, 3]


@pytest.mark.parametrize(
    ("items", "error", "said"),
    [
        ([{"item_id": "a", "title": "New"}], DataError, r"item 'a' is in the catalogue already, as 'Alien \(1979\)'"),
        ([{"item_id": "x", "title": "X"}] * 2, DataError, "item 'x' is given more than once"),
        ([{"item_id": "x", "title": "<b> </b>"}], DataError, "item 'x' has no readable title \\(got '<b> </b>'\\)"),
        ([{"item_id": "x", "title": None}], DataError, "item 'x' has no readable title \\(got None\\)"),
        ([{"item_id": "", "title": "X"}], DataError, "item number 0 has no id"),
        ([{"item_id": "x"}], ColumnError, "the items have no 'title'"),
        ([{"id": "x", "title": "X"}], ColumnError, "the items have no 'item_id': .*'title'|expected one of: id, title"),
        ([{"item_id": "x", "title": "X", "genr": "War"}], ColumnError, "item 'x' has 'genr'.*did you mean 'genre'"),
        ([{"item_id": "x", "title": "X", "year": "soon"}], DataError, "item 'x' has year = 'soon': .* Int64"),
        ([{"item_id": "x", "title": "X", "year": [1999]}], DataError, "item 'x' has year = "),
        ([{"item_id": "x", "title": "X", "year": 3.9}], DataError, r"item 'x' has year = 3\.9: .* Int64"),
        ([{"item_id": "x", "title": "X", "year": True}], DataError, "item 'x' has year = True: .* Int64"),
        ([{"item_id": "x", "title": "X", "year": {"a": 1}}], DataError, "item 'x' has year = {'a': 1}"),
        ([{"item_id": "x", "title": "X", "genre": ["War", 7]}], DataError, r"item 'x' has genre = \['War', 7\]"),
        (pl.DataFrame({"item_id": ["x"], "title": ["X"], "year": [3.9]}), DataError, r"item 'x' has year = 3\.9"),
        ([{"item_id": "x", "title": 1.5}], DataError, "title is 1.5"),
        (["x"], DataError, "item number 0 is 'x', expected a mapping"),
        ({"item_id": ["x"], "title": ["X"]}, DataError, r"item_id is \['x'\] .*, expected text"),
        (
            pl.DataFrame(schema={"item_id": pl.Float64, "title": pl.String}),
            DataError,
            "item_id is Float64, expected text",
        ),
        ([{"item_id": n, "title": ""} for n in range(5)], DataError, "item '2' has .* and 2 more: give every item"),
    ],
)
def test_what_cannot_be_added_is_said(items: list[object], error: type[FlrError], said: str) -> None:
    with pytest.raises(error, match=said):
        added(films(), items)


def test_a_catalogue_without_attributes_takes_none() -> None:
    plain = build_catalogue(pl.DataFrame({"item_id": ["a"], "title": ["A"]}))
    assert added(plain, [{"item_id": "b", "title": "B"}]).attributes is None
    with pytest.raises(ColumnError, match="item 'b' has 'year', which the catalogue's items have not: its items have"):
        added(plain, [{"item_id": "b", "title": "B", "year": 1}])


def test_nothing_left_is_refused() -> None:
    with pytest.raises(DataError, match="all 4 items are taken out"):
        without_items(films(), ItemLookup(films()).indices(["a", "b", "c", "d"], "remove"))
