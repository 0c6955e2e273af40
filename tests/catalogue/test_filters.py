"""Which items a filter leaves."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest

from flr.catalogue.filters import AttributeIndex, Between, ItemFilter, each_filter
from flr.catalogue.titles import build_catalogue
from flr.errors import RequestError


def index() -> AttributeIndex:
    items = pl.DataFrame(
        {
            "item_id": list("abcde"),
            "title": list("ABCDE"),
            "genre": ["Action Sci-Fi", "Film-Noir", None, "Drama;Sci-Fi", "Action, Film Noir"],
            "style": ["Jazz & Blues", "Rock|Blues", None, "Soul, Funk| Jazz & Blues", "Rock"],
            "year": [1990, 1991, 1990, None, 1995],
            "score": [0.5, 1.0, 2.0, 2.5, 1.0],
            "tags": [["x", "y"], [], ["y z"], None, ["x"]],
            "in_stock": [True, False, True, True, None],
            "kind": pl.Series(["new", "old", "new", "old", "new"], dtype=pl.Categorical),
            "released": ["1990", " 1991.5 ", "unknown", None, "Part 1995"],
            "prices": [[5.0, 20.0], [], [7.5], None, [float("nan")]],
            "added": [date(2020, 1, day) for day in range(1, 6)],
        }
    )
    return AttributeIndex(build_catalogue(items))


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({}, "abcde"),
        ({"genre": "Sci-Fi"}, "ad"),
        ({"genre": "Action Sci-Fi"}, "a"),
        ({"genre": ["Film-Noir", "Drama"]}, "bd"),
        ({"genre": "Film Noir"}, "e"),
        ({"genre": ("Action",), "year": 1990}, "a"),
        ({"style": "Jazz & Blues"}, "ad"),
        ({"style": "Blues"}, "b"),
        ({"style": ["Soul, Funk", "Rock"]}, "bde"),
        ({"style": "Rock|Blues"}, "b"),
        ({"year": "1990"}, "ac"),
        ({"year": [1990, 1995]}, "ace"),
        ({"score": "2.50"}, "d"),
        ({"tags": "x"}, "ae"),
        ({"tags": "y z"}, "c"),
        ({"in_stock": True}, "acd"),
        ({"in_stock": "false"}, "b"),
        ({"kind": {"old"}}, "bd"),
        ({"kind": "old", "year": 1990}, ""),
        ({"year": Between(1990, 1991)}, "abc"),
        ({"year": Between(low=1991)}, "be"),
        ({"score": Between(high=1)}, "abe"),
        ({"score": Between(1.0, 1.0)}, "be"),
        ({"year": Between(2000, 2010)}, ""),
        ({"year": [1990, Between(1994, 1996)]}, "ace"),
        ({"year": Between(1990, 1991), "genre": "Sci-Fi"}, "a"),
        ({"released": Between(1990, 2000)}, "ab"),
        ({"prices": Between(6, 30)}, "ac"),
    ],
)
def test_any_value_of_an_attribute_and_all_attributes(where: dict[str, Any], left: str) -> None:
    assert "".join(np.array(list("abcde"))[index().mask(where)]) == left


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"gener": "Drama"}, "no attribute 'gener'; did you mean 'genre'"),
        ({"genre": "SciFi"}, "no item has genre = 'SciFi'; did you mean 'Sci-Fi'"),
        ({"genre": ["Drama", "Opera"]}, "no item has genre = 'Opera'"),
        ({"genre": "Film"}, None),
        ({"style": "Jazz"}, "no item has style = 'Jazz'"),
        ({"tags": "z"}, "no item has tags = 'z'"),
        ({"year": "old"}, "year holds numbers, got 'old'"),
        ({"genre": Between(1, 2.5)}, r"genre holds no numbers, so that it cannot be asked for a range \(1\.\.2\.5\)"),
        ({"in_stock": Between(0)}, r"in_stock holds no numbers.*a range \(0\.\.\)"),
        ({"added": Between(0, 1)}, "added holds no numbers"),
        ({"yaer": Between(high=1)}, "no attribute 'yaer'"),
    ],
)
def test_names_that_nothing_has_are_refused(where: dict[str, Any], said: str | None) -> None:
    if said is None:  # the words of a text with signs are no values
        said = "no item has genre = 'Film'"
    with pytest.raises(RequestError, match=said):
        index().mask(where)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((None, None), "neither a low nor a high end"),
        ((2, 1), "from 2 to 1 holds nothing"),
        (("1", 2), "'1' is no finite number"),
        ((True, 2), "True is no finite number"),
        ((float("nan"), 2), "nan is no finite number"),
        ((1, float("inf")), "inf is no finite number"),
        ((10**400, None), "is no finite number"),
    ],
)
def test_ranges_that_hold_nothing(ends: tuple[Any, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Between(*ends)


def test_a_new_item_does_not_part_the_texts_of_others() -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "genre": ["Action Sci-Fi", "Drama|Sci-Fi"]})
    before = AttributeIndex(build_catalogue(frame[:1]))
    after = AttributeIndex(build_catalogue(frame), before)
    assert after.mask({"genre": "Sci-Fi"}).tolist() == [True, True]
    with pytest.raises(RequestError, match="no item has genre = 'Action'"):
        AttributeIndex(build_catalogue(frame)).mask({"genre": "Action"})


def test_values_are_found_composed_or_not() -> None:
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    frame = pl.DataFrame({"item_id": list("abc"), "title": list("ABC"), "place": [composed, decomposed, "Bar"]})
    found = AttributeIndex(build_catalogue(frame))
    for asked in (composed, decomposed):
        assert found.mask({"place": asked}).tolist() == [True, True, False]


def test_a_value_is_not_compared_with_very_many() -> None:
    titles = [f"Title {number}" for number in range(2_001)]
    frame = pl.DataFrame({"item_id": titles, "title": titles, "code": [f"c{number}" for number in range(2_001)]})
    with pytest.raises(RequestError, match="no item has code = 'c20001'; it has 2,001 others; check the spelling"):
        AttributeIndex(build_catalogue(frame)).mask({"code": "c20001"})
    with pytest.raises(RequestError, match="did you mean 'c2000'"):
        AttributeIndex(build_catalogue(frame[1:])).mask({"code": "c20001"})


def test_unknown_values_can_match_nothing_but_attributes_must_be_there() -> None:
    assert not index().mask({"genre": "Opera"}, skips_unknown=True).any()
    with pytest.raises(RequestError, match="no attribute 'opera'"):
        index().mask({"opera": "Genre"}, skips_unknown=True)
    bare = AttributeIndex(build_catalogue(pl.DataFrame({"item_id": ["a"], "title": ["A"]})))
    with pytest.raises(RequestError, match="no attribute 'genre'; they have none at all"):
        bare.mask({"genre": "Drama"})


def test_filters_may_come_in_any_kind_of_list() -> None:
    one = ItemFilter(exclude=["a"])
    for given in ([one, None], np.array([one, None], dtype=object), iter([one, None])):
        distinct, of_row = each_filter(given, 2)  # type: ignore[arg-type]
        assert distinct == [one, None]
        assert of_row.tolist() == [0, 1]


def test_equal_filters_are_counted_once() -> None:
    one = ItemFilter(exclude=["a"])
    distinct, of_row = each_filter([one, None, one], 3)
    assert [distinct[place] for place in of_row] == [one, None, one]
    assert len(distinct) == 2
    with pytest.raises(RequestError, match="got 2 filters for 3 histories"):
        each_filter([one, None], 3)


def test_an_attribute_is_looked_through_once_however_many_ask_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, look_through = list[str](), AttributeIndex._look_through

    def slow(index: AttributeIndex, attribute: str) -> Any:
        looked.append(attribute)
        time.sleep(0.05)
        return look_through(index, attribute)

    monkeypatch.setattr(AttributeIndex, "_look_through", slow)
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "genre": ["Jazz", "Rock"]})
    index = AttributeIndex(build_catalogue(items))
    with ThreadPoolExecutor(4) as pool:
        masks = list(pool.map(lambda _: index.mask({"genre": "Jazz"}).tolist(), range(4)))
    assert masks == [[True, False]] * 4
    assert looked == ["genre"]
