"""Named public data sets, from a stub in the cache in place of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from flr.data import sources
from flr.data.sources import SOURCES, fetch, read_source
from flr.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t267\t3\t881250949\n1\t2\t4\t881250950\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "2\tGoldenEye\t1995\tAction Thriller\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
    "1412\tLand Before Time III (1995)\tV\tAnimation\n"
)


@pytest.fixture
def movies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ml-100k.inter").write_text(INTER)
    (tmp_path / "ml-100k.item").write_text(ITEM)

    def stub(requirement: str, sha256: str, members: dict[str, str], folder_name: str) -> Path:
        assert requirement == "recbole==1.2.1"
        assert sha256.startswith("9c994820")
        assert set(members.values()) == {"ml-100k.inter", "ml-100k.item"}
        assert folder_name == "ml-100k"
        return tmp_path

    monkeypatch.setattr(sources, "fetch_wheel_members", stub)


@pytest.mark.usefixtures("movies")
def test_movies_are_titled_with_their_year_where_it_is_one(tmp_path: Path) -> None:
    assert fetch("ml-100k") == tmp_path
    record = read_source("ml-100k")
    assert record.frame.rows() == [("1", "267", 881_250_949, 3.0), ("1", "2", 881_250_950, 4.0)]
    assert record.items.select("item_id", "title", "category").rows() == [
        ("2", "GoldenEye (1995)", "Action Thriller"),
        ("267", "unknown", "unknown"),
        ("1412", "Land Before Time III (1995)", "Animation"),
    ]
    assert record.source["name"] == "ml-100k"
    assert "GroupLens" in record.source["licence"]
    assert "2827872" in record.source["citation"]


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(DataError, match=r"no public data set 'ml-100'; did you mean 'ml-100k'"):
        read_source("ml-100")
    assert list(SOURCES) == ["ml-100k"]
