"""Lists for many people into one file: in parts that survive an interruption, shared among machines if wanted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from flr.arguments import check_choice, check_k
from flr.catalogue.filters import AllowedItems, ItemFilter
from flr.catalogue.titles import clean_title
from flr.errors import ArtifactError, RequestError, StorageError, UnknownItemError
from flr.lists import Asked, Recommendation, best_lists
from flr.persistence import hold_folder, write_bytes
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import ITEM_ID, TITLE, USER_ID, Histories
from flr.saving import saved_hash
from flr.steering import check_factor_weights

#: Column of the items that somebody took, oldest first.
HISTORY: Final = "history"
#: People whose lists are made and kept at once.
_PART_SIZE: Final = 256
#: Raised when parts of before cannot be gone on with.
_PARTS_VERSION: Final = 1
_WRITERS: Final = {".parquet": "sink_parquet", ".csv": "sink_csv", ".jsonl": "sink_ndjson"}
_SCHEMA: Final = {
    **{USER_ID: pl.String, "rank": pl.Int32, ITEM_ID: pl.String, TITLE: pl.String},
    **{"probability": pl.Float64, "log_prob": pl.Float64},
}


@dataclass(frozen=True)
class ListSettings:
    """What lists are to be like; attributes as the arguments of `flr.Recommender.recommend`."""

    k: int = 10
    by: Literal["id", "title"] = "id"
    exclude_seen: bool = True
    unknown: Literal["error", "skip"] = "error"
    empty: Literal["error", "popular"] = "error"
    filters: ItemFilter | None = None
    factor_weights: Sequence[float] | None = None


@dataclass(frozen=True)
class WrittenLists:
    """What `write_lists` did.

    Attributes:
        path: The file.
        n_lists: People with at least one recommended item.
        n_items: Recommended items in all, the rows of the file.
        without: Ids of people who took nothing that the catalogue has, and have no list.
        n_skipped: Rows of histories that were left out because the catalogue does not have their item.
    """

    path: Path
    n_lists: int
    n_items: int
    without: tuple[str, ...]
    n_skipped: int


def write_lists(
    run: Path | str,
    people: pl.DataFrame,
    output: Path | str,
    *,
    settings: ListSettings | None = None,
    items: pl.DataFrame | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> WrittenLists:
    """Write the list of each person, one row per recommended item, in the order of the people.

    Parts that are finished stay in a folder beside the output until it is whole, so that the same call goes on where
    it was interrupted. The folder's name tells them from parts of other people, models or settings.

    Args:
        run: Folder of a run or of a saved recommender.
        people: ``user_id`` (distinct) and ``history`` (a list of texts, oldest first).
        output: A file that ends with .parquet, .csv or .jsonl; gets ``user_id``, ``rank`` (from 1), ``item_id``,
            ``title``, ``probability`` and ``log_prob``.
        settings: What lists are to be like; None takes the defaults. People without a known item have no list, or that
            of what is popular.
        items: ``item_id`` and ``title`` of what the people took, where these are known: items of another data set
            that happen to have the same ids are refused.
        overwrite: Replace a file that is there.
        progress: Told about people.

    Raises:
        RequestError: The output ends otherwise, people lack a column, an id or an item is missing, an id is given
            twice, nobody took anything that is known, the items are others, or the settings are not possible; see
            `flr.Recommender.recommend`.
        UnknownItemError: An item is not in the catalogue and may not be skipped.
        ArtifactError: The run cannot be loaded, the output is there, or another process writes it.
        StorageError: The disk refused a write; finished parts stay.
    """
    asked, output = settings or ListSettings(), Path(output)
    check_k(asked.k)
    check_choice(asked.by, "by", ("id", "title"))
    check_choice(asked.unknown, "unknown", ("error", "skip"))
    check_choice(asked.empty, "empty", ("error", "popular"))
    _check(people, output, overwrite)
    recommender = Recommender.load(run)
    if items is not None and asked.by == "id":
        _check_same_items(items, recommender)
    known = _Known.of(people, recommender, asked)
    steered = _Steered.of(recommender, asked)
    with _parts_folder(output, _job(saved_hash(Path(run)), known, steered)) as parts:
        finished = []
        with progress.task("recommend", total=len(known.user_ids)) as step:
            for number, start in enumerate(range(0, len(known.user_ids), _PART_SIZE)):
                rows = np.arange(start, min(start + _PART_SIZE, len(known.user_ids)))
                finished.append(parts / f"{number:06d}.parquet")
                if not finished[-1].exists():
                    lists = steered.lists(recommender, known.histories.take(rows))
                    _write_part(finished[-1], lists, known.user_ids[rows])
                step(len(rows))
        n_lists, n_items = _join(finished, output)
    return WrittenLists(output, n_lists, n_items, known.without, known.n_skipped)


@dataclass(frozen=True)
class _Known:
    """People with at least one known item, and what was left out."""

    user_ids: np.ndarray[Any, np.dtype[np.object_]]
    histories: Histories
    without: tuple[str, ...]
    n_skipped: int

    @classmethod
    def of(cls, people: pl.DataFrame, recommender: Recommender, asked: ListSettings) -> _Known:
        lookup = recommender.snapshot.live.lookup
        user_ids = people[USER_ID].to_numpy()
        of_person = people.select(pl.int_range(pl.len()).alias("person"), HISTORY).explode(HISTORY).drop_nulls()
        distinct = of_person[HISTORY].unique(maintain_order=True)
        found = [lookup.find(item, asked.by) for item in distinct]
        table = pl.DataFrame({HISTORY: distinct, "index": pl.Series(found, dtype=pl.Int64)})
        rows = of_person.join(table, on=HISTORY, how="left", maintain_order="left")
        missing = rows.filter(pl.col("index").is_null())
        if asked.unknown == "error" and len(missing):
            first = missing.row(0, named=True)
            try:
                lookup.index(first[HISTORY], by=asked.by)
            except UnknownItemError as error:
                problem = f"user {user_ids[first['person']]!r}: {error.problem}; or skip unknown items"
                raise UnknownItemError(problem, error.other) from None
        rows = rows.drop_nulls()
        lengths = np.bincount(rows["person"].to_numpy(), minlength=len(user_ids))
        kept = (lengths > 0) | (asked.empty == "popular")
        if len(people) and not lengths.any() and (len(of_person) or not kept.any()):
            raise RequestError("nobody took an item that the catalogue has; say whether histories hold ids or titles")
        return cls(
            user_ids=user_ids[kept],
            histories=Histories(rows["index"].to_numpy(), np.concatenate([[0], np.cumsum(lengths[kept])])),
            without=tuple(map(str, user_ids[~kept])),
            n_skipped=len(missing),
        )


@dataclass(frozen=True)
class _Steered:
    """What lists are to be like, checked and looked up."""

    k: int
    exclude_seen: bool
    allowed: np.ndarray[Any, np.dtype[np.bool_]] | None
    weights: tuple[float, ...] | None
    popular: bool

    @classmethod
    def of(cls, recommender: Recommender, asked: ListSettings) -> _Steered:
        now = recommender.snapshot
        allowed = now.live.allowed(asked.filters, 1, unknown=asked.unknown)
        weights = check_factor_weights(asked.factor_weights, now.n_factors, 1)
        return cls(
            asked.k,
            asked.exclude_seen,
            allowed=None if allowed is None else allowed.masks[0],
            weights=None if weights is None else tuple(map(float, weights[0])),
            popular=asked.empty == "popular",
        )

    def lists(self, recommender: Recommender, histories: Histories) -> list[list[Recommendation]]:
        allowed = None
        if self.allowed is not None:
            allowed = AllowedItems(self.allowed[None], np.zeros(len(histories), dtype=np.int64))
        asked = Asked(histories, self.k, self.exclude_seen, self.weights, allowed, popular=self.popular)
        return best_lists(recommender.snapshot, asked)


def _check(people: pl.DataFrame, output: Path, overwrite: bool) -> None:
    if output.suffix not in _WRITERS:
        raise RequestError(f"got the output {str(output)!r}, expected a name that ends with {', '.join(_WRITERS)}")
    for column, dtype in ((USER_ID, pl.String), (HISTORY, pl.List(pl.String))):
        if people.schema.get(column) != dtype:
            raise RequestError(
                f"people have {people.schema.get(column) or 'no column'} as {column!r}, expected {dtype}; "
                f"they need {USER_ID!r} and {HISTORY!r}"
            )
    if people[USER_ID].null_count():
        raise RequestError(f"{people[USER_ID].null_count():,} people have no {USER_ID}; give each their own")
    if people[USER_ID].n_unique() < len(people):
        twice = people.filter(pl.col(USER_ID).is_duplicated())[USER_ID][0]
        raise RequestError(f"the user {twice!r} is given more than once; give each their own history")
    holed = people.filter(pl.col(HISTORY).list.eval(pl.element().is_null()).list.any())
    if len(holed):
        raise RequestError(f"the history of user {holed[USER_ID][0]!r} has a null among its items; leave it out")
    if output.exists() and not overwrite:
        raise ArtifactError(f"{str(output)!r} exists already; name another file, or ask for overwriting")


def _check_same_items(items: pl.DataFrame, recommender: Recommender) -> None:
    """Refuse items most of which are called otherwise than those of the catalogue with the same ids."""
    catalogue, place = recommender.catalogue, recommender.snapshot.live.lookup.index_of_id
    rows = items.select(ITEM_ID, TITLE).drop_nulls().iter_rows()
    titles = [(item, clean_title(title), str(catalogue.titles[place[item]])) for item, title in rows if item in place]
    others = [(item, theirs, ours) for item, theirs, ours in titles if theirs != ours]
    if 2 * len(others) > len(titles):
        item, theirs, ours = others[0]
        raise RequestError(
            f"{len(others):,} of {len(titles):,} items with ids of the catalogue are others: {item!r} is {theirs!r}, "
            f"and {ours!r} in the catalogue; give people of the data that the run was trained on"
        )


def _job(recommender: str, known: _Known, steered: _Steered) -> str:
    """Return a hash of all that decides the lists and how they lie in parts."""
    weights = None if steered.weights is None else list(steered.weights)
    facts = [_PARTS_VERSION, _PART_SIZE, recommender, list(known.user_ids)]
    facts += [steered.k, steered.exclude_seen, weights, steered.popular]
    job = hashlib.sha256(json.dumps(facts).encode())
    job.update(known.histories.item_index.astype(np.int64).tobytes() + known.histories.offsets.tobytes())
    job.update(b"" if steered.allowed is None else b"allowed" + np.packbits(steered.allowed).tobytes())
    return job.hexdigest()


@contextmanager
def _parts_folder(output: Path, job: str) -> Iterator[Path]:
    """Yield the folder of a job's parts, which no other process has meanwhile; it goes when the output is there."""
    parts = output.with_name(f"{output.name}.{job[:12]}.parts")
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {str(parts)!r}: {error}; name another output") from error
    held = hold_folder(parts, "written")
    try:
        yield parts
        done = parts.with_name(parts.name.removesuffix(".parts") + ".done")  # half of it must never be gone on with
        shutil.rmtree(done, ignore_errors=True)
        parts.rename(done)
        shutil.rmtree(done, ignore_errors=True)
    finally:
        if held is not None:
            os.close(held)


def _write_part(path: Path, lists: Sequence[Sequence[Recommendation]], user_ids: Iterable[str]) -> None:
    rows = [
        (user_id, rank, item.item_id, item.title, item.probability, item.log_prob)
        for user_id, items in zip(user_ids, lists, strict=True)
        for rank, item in enumerate(items, start=1)
    ]
    content = io.BytesIO()
    pl.DataFrame(rows, schema=_SCHEMA, orient="row").write_parquet(content)
    write_bytes(path, content.getvalue())


def _join(parts: Sequence[Path], output: Path) -> tuple[int, int]:
    """Put the parts into one file, in one step; return how many lists and rows it has."""
    partial = output.with_name(f".{output.name}.partial")
    frame = pl.scan_parquet(list(parts), glob=False) if parts else pl.LazyFrame(schema=_SCHEMA)
    try:
        getattr(frame, _WRITERS[output.suffix])(partial)
        partial.replace(output)
    except (OSError, pl.exceptions.PolarsError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(output)!r}: {error}; its parts stay beside it") from error
    counts = frame.select(pl.col(USER_ID).n_unique().alias("lists"), pl.len().alias("rows")).collect()
    return counts.row(0)
