"""Lists for many people into one file: in parts that survive an interruption, shared among machines if wanted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from flr.arguments import check_choice, check_k
from flr.catalogue.filters import ItemFilter
from flr.errors import ArtifactError, RequestError, StorageError, UnknownItemError
from flr.lists import Asked, Recommendation, best_lists
from flr.persistence import file_sha256, read_json, write_json
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import ITEM_ID, TITLE, USER_ID, Histories
from flr.saving import saved_folder

#: Column of the items that somebody took, oldest first.
HISTORY: Final = "history"
#: People whose lists are made and kept at once.
_PART_SIZE: Final = 256
_WRITERS: Final = {".parquet": "sink_parquet", ".csv": "sink_csv", ".jsonl": "sink_ndjson"}
_JOB_FILE: Final = "job.json"
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
    filters: ItemFilter | None = None
    factor_weights: Sequence[float] | None = None


@dataclass(frozen=True)
class WrittenLists:
    """What `write_lists` did.

    Attributes:
        path: The file.
        n_lists: People with a list.
        without: Ids of people without one, as they took nothing that the catalogue has.
        n_skipped: Rows of histories that were left out because the catalogue does not have their item.
    """

    path: Path
    n_lists: int
    without: tuple[str, ...]
    n_skipped: int


def write_lists(
    run: Path,
    people: pl.DataFrame,
    output: Path,
    *,
    settings: ListSettings | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> WrittenLists:
    """Write the list of each person, one row per recommended item, in the order of the people.

    Parts that are finished stay beside the output until it is whole, so that the same call goes on where it was
    interrupted.

    Args:
        run: Folder of a run or of a saved recommender.
        people: ``user_id`` (distinct) and ``history`` (a list of texts, oldest first).
        output: A file that ends with .parquet, .csv or .jsonl; gets ``user_id``, ``rank`` (from 1), ``item_id``,
            ``title``, ``probability`` and ``log_prob``.
        settings: What lists are to be like; None takes the defaults. Where unknown items are skipped, people who took
            no others have no list.
        overwrite: Replace a file that is there, and begin anew where parts of other lists are.
        progress: Told about people.

    Raises:
        RequestError: The output ends otherwise, people lack a column, an id is missing or given twice, nobody took
            anything that is known, or the settings are not possible; see `flr.Recommender.recommend`.
        UnknownItemError: An item is not in the catalogue and may not be skipped.
        ArtifactError: The run cannot be loaded, the output is there, or parts of other lists are.
        StorageError: The disk refused a write; finished parts stay.
    """
    asked = settings or ListSettings()
    check_k(asked.k)
    check_choice(asked.by, "by", ("id", "title"))
    check_choice(asked.unknown, "unknown", ("error", "skip"))
    _check(people, output, overwrite)
    recommender = Recommender.load(run)
    known = _Known.of(people, recommender, asked)
    parts = output.with_name(output.name + ".parts")
    _open_parts(parts, _job(run, known, asked), overwrite)
    with progress.task("recommend", total=len(known.user_ids)) as step:
        for number, start in enumerate(range(0, len(known.user_ids), _PART_SIZE)):
            rows = np.arange(start, min(start + _PART_SIZE, len(known.user_ids)))
            path = parts / f"{number:06d}.parquet"
            if not path.exists():
                _write_part(path, _lists(recommender, known.histories.take(rows), asked), known.user_ids[rows])
            step(len(rows))
    _join(parts, output)
    return WrittenLists(output, len(known.user_ids), known.without, known.n_skipped)


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
            person, item = missing.row(0, named=True)["person"], missing.row(0, named=True)[HISTORY]
            try:
                lookup.index(item, by=asked.by)
            except UnknownItemError as error:
                raise UnknownItemError(f"user {user_ids[person]!r}: {error}; or skip unknown items") from None
        rows = rows.drop_nulls()
        lengths = np.bincount(rows["person"].to_numpy(), minlength=len(user_ids))
        if not lengths.any():
            raise RequestError("nobody took an item that the catalogue has; say whether histories hold ids or titles")
        offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
        return cls(
            user_ids=user_ids[lengths > 0],
            histories=Histories(rows["index"].to_numpy(), offsets),
            without=tuple(map(str, user_ids[lengths == 0])),
            n_skipped=len(missing),
        )


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
    if output.exists() and not overwrite:
        raise ArtifactError(f"{str(output)!r} exists already; name another file, or ask for overwriting")


def _job(run: Path, known: _Known, asked: ListSettings) -> dict[str, str]:
    """Return what decides the lists, so that parts of others are told apart."""
    people = hashlib.sha256(json.dumps(list(known.user_ids)).encode())
    people.update(np.ascontiguousarray(known.histories.item_index).tobytes() + known.histories.offsets.tobytes())
    files = sorted(path for path in saved_folder(run).iterdir() if path.is_file())
    weights = hashlib.sha256("".join(file_sha256(path) for path in files).encode())
    return {"people": people.hexdigest(), "recommender": weights.hexdigest(), "settings": repr(asked)}


def _open_parts(parts: Path, job: dict[str, str], overwrite: bool) -> None:
    """Make the folder of parts, or go on with one of the same lists."""
    if (parts / _JOB_FILE).exists():
        before = read_json(parts / _JOB_FILE, "job")
        if before == job:
            return
        if not overwrite:
            different = next(name for name in job if before.get(name) != job[name])
            raise ArtifactError(
                f"{str(parts)!r} holds parts of lists of another {different}; remove it, or ask for overwriting"
            )
        shutil.rmtree(parts)
    write_json(parts / _JOB_FILE, job)


def _lists(recommender: Recommender, histories: Histories, asked: ListSettings) -> list[list[Recommendation]]:
    now = recommender.snapshot
    allowed = now.live.allowed(asked.filters, len(histories), unknown=asked.unknown)
    return best_lists(now, Asked(histories, asked.k, asked.exclude_seen, asked.factor_weights, allowed))


def _write_part(path: Path, lists: Sequence[Sequence[Recommendation]], user_ids: Iterable[str]) -> None:
    rows = [
        (user_id, rank, item.item_id, item.title, item.probability, item.log_prob)
        for user_id, items in zip(user_ids, lists, strict=True)
        for rank, item in enumerate(items, start=1)
    ]
    partial = path.with_suffix(".partial")
    try:
        pl.DataFrame(rows, schema=_SCHEMA, orient="row").write_parquet(partial)
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error}; free some space and go on with the same") from error


def _join(parts: Path, output: Path) -> None:
    """Put the parts into one file, in one step, and remove them."""
    partial = output.with_name(f".{output.name}.partial")
    frame = pl.scan_parquet(sorted(parts.glob("*.parquet")))
    try:
        getattr(frame, _WRITERS[output.suffix])(partial)
        partial.replace(output)
    except (OSError, pl.exceptions.PolarsError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(output)!r}: {error}; its parts stay in {str(parts)!r}") from error
    shutil.rmtree(parts)
