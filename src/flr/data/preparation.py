"""Interactions -> user sequences, catalogue and manifest: the journey through the data station."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from flr.data.auditing import audit
from flr.data.filtering import deduplicate
from flr.data.findings import Audit
from flr.data.narrowing import narrow
from flr.data.splitting import check_leakage, check_time_order, given, leave_one_out, temporal
from flr.data.withholding import withhold
from flr.errors import ColumnError, DataError
from flr.prepare_config import PrepareConfig
from flr.progress import SILENT, Progress
from flr.records import (
    FINER,
    ITEM_ID,
    ITEM_INDEX,
    ORDER,
    RATING,
    SPLIT,
    TIMESTAMP,
    TITLE,
    USER_ID,
    USER_INDEX,
    BoolArray,
    IntArray,
    Interactions,
    PreparedData,
    UserSequences,
)

#: Layout of a prepared folder; raised when older folders become unreadable.
SCHEMA_VERSION: Final = 1
_ROW: Final = "file_row"
#: Types of columns, and whether every row needs a value.
_ROWS: Final = {
    USER_ID: (pl.String, True),
    ITEM_ID: (pl.String, True),
    TIMESTAMP: (pl.Int64, True),
    SPLIT: (pl.String, False),
    ORDER: (pl.Int64, False),
}
_LISTED: Final = {ITEM_ID: (pl.String, True), TITLE: (pl.String, False)}
_READ_THEM: Final = "flr.read_frames(rows, items) makes what is expected of anybody's frames"
_CUT_TIES: Final = {
    "file": "by place in the file",
    "user": "user by user, in the order of their first rows in the file",
    "whole": "rows of one time stay together, in the later part",
}


def prepare(
    interactions: Interactions, settings: PrepareConfig | None = None, *, progress: Progress = SILENT
) -> PreparedData:
    """Return interactions filtered, grouped by user, ordered, split, checked for leakage and audited.

    Args:
        interactions: What `flr.read` or `flr.read_frames` returned, or a record of one's own in the same form.
        settings: Filters, split and what to do with items without a title; None means the defaults.
        progress: Is told how far it is.

    Returns:
        Sequences, items in the order of their index, and a manifest: versions, settings, source, counts, what
        was dropped, how ties were broken, and the audit.

    Raises:
        DataError: There are no rows, none is rated high enough, filters leave nothing, an item has no title and the
            settings allow no fallback, a label is none, a part of the split is empty, or withholding items leaves
            it so.
        ColumnError: The split, order or rating column, which the settings need, was not read; or columns are not as
            `Interactions` says.
        LeakageError: The split would let training see the future of a test target.
    """
    settings = settings or PrepareConfig()
    _check_form(interactions)
    if interactions.frame.is_empty():
        raise DataError("there are no interactions to prepare; expected at least one row")
    with progress.task("prepare", total=5) as step:
        interactions = _well_rated(interactions, settings.min_rating)
        frame, user_ids, items = _encode(interactions, settings)
        step(note=f"{len(frame):,} rows read")
        kept = _filter(frame, user_ids, items, settings)
        _check_titles(kept.items, settings)
        step(note=f"{len(kept.frame):,} rows kept")
        frame = _order(kept.frame, settings)
        step(note="ordered")
        sequences = _sequences(frame, kept.user_ids, settings)
        items, dropped, about = kept.items, {**interactions.dropped, **kept.dropped}, {}
        if settings.cold_items:
            withheld = withhold(sequences, items, share=settings.cold_items, seed=settings.cold_seed)
            sequences, items = withheld.sequences, withheld.items
            dropped["rows_of_cold_items"] = withheld.n_dropped
            about = {"cold": {"n_items": withheld.n_cold, "seed": settings.cold_seed}}
        step(note="split")
        found = audit(sequences, items)
        step(note="audited")
    manifest = _manifest(settings, interactions, dropped, found) | about
    return PreparedData(sequences, items, manifest | ({"window": kept.window} if kept.window else {}))


def _check_form(interactions: Interactions) -> None:
    """Check that the columns are as `Interactions` says: ids are texts, times are whole seconds, none is missing."""
    for what, frame, needed in (("frame", interactions.frame, _ROWS), ("items", interactions.items, _LISTED)):
        if not isinstance(frame, pl.DataFrame):
            raise ColumnError(f"the {what} is a {type(frame).__name__}, expected a frame of polars; {_READ_THEM}")
        for name, (dtype, is_whole) in needed.items():
            if name not in frame.columns:
                if is_whole:
                    raise ColumnError(f"the {what} has no column {name!r}, but {frame.columns}; {_READ_THEM}")
            elif frame[name].dtype != dtype and not frame.is_empty():
                got = frame[name].dtype
                raise ColumnError(f"column {name!r} of the {what} has type {got}, expected {dtype}; {_READ_THEM}")
            elif is_whole and frame[name].null_count():
                n = frame[name].null_count()
                raise ColumnError(f"column {name!r} of the {what} is empty in {n:,} rows; {_READ_THEM}")


@dataclass(frozen=True)
class _Kept:
    """What the filters left, the numbers they dropped, and the window of time."""

    frame: pl.DataFrame
    user_ids: npt.NDArray[np.object_]
    items: pl.DataFrame
    dropped: dict[str, int]
    window: dict[str, Any]


def _manifest(
    settings: PrepareConfig, interactions: Interactions, dropped: dict[str, int], found: Audit
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "flr_version": _flr_version(),
        "split": settings.split,
        "tie_break": _tie_break(settings, is_finer=FINER in interactions.frame.columns),
        "counts": found.counts,
        "dropped": dropped,
        "settings": settings.model_dump(),
        "source": interactions.source,
        "audit": found.to_json(),
    }


def _well_rated(interactions: Interactions, least: float | None) -> Interactions:
    """Return the interactions rated `least` or higher, with the numbers of the others; None: all of them."""
    if least is None:
        return interactions
    frame = interactions.frame
    if RATING not in frame.columns:
        raise ColumnError(
            f"the interactions have no rating column, which min_rating={least:g} needs; name it with "
            "rating_column=..., or leave min_rating out"
        )
    ratings = frame[RATING].cast(pl.Float64).fill_nan(None)
    kept = frame.filter(ratings >= least)
    n_unrated = ratings.null_count()
    dropped = {"rows_below_min_rating": len(frame) - len(kept) - n_unrated, "unrated_rows": n_unrated}
    if kept.is_empty():
        raise DataError(
            f"none of {len(frame):,} rows is rated {least:g} or higher: the highest rating is {ratings.max()!r}, and "
            f"{n_unrated:,} rows have none; lower min_rating={least:g}"
        )
    return replace(interactions, frame=kept, dropped=interactions.dropped | dropped)


def _encode(
    interactions: Interactions, settings: PrepareConfig
) -> tuple[pl.DataFrame, npt.NDArray[np.object_], pl.DataFrame]:
    """Return rows with indices for ids, the users' ids, and all items: the listed ones, then those only taken."""
    frame = interactions.frame
    needed = {SPLIT: settings.split == "given", ORDER: settings.order_column is not None}
    for role, is_needed in needed.items():
        if is_needed and role not in frame.columns:
            raise ColumnError(
                f"the interactions have no {role} column, which split={settings.split} needs; read it too"
            )
    repeated = interactions.items.filter(pl.col(ITEM_ID).is_duplicated())
    if len(repeated):
        raise DataError(f"the items list {repeated[ITEM_ID][0]!r} more than once; keep one row per item")
    needed[FINER] = FINER in frame.columns
    kept = [TIMESTAMP, *(role for role, is_needed in needed.items() if is_needed)]
    users = frame.select(pl.col(USER_ID).unique(maintain_order=True))
    taken = frame.select(pl.col(ITEM_ID).unique(maintain_order=True))
    unlisted = taken.join(interactions.items, on=ITEM_ID, how="anti", maintain_order="left")
    items = pl.concat([interactions.items, unlisted], how="diagonal")
    if TITLE not in items.columns:
        items = items.with_columns(pl.lit(None, dtype=pl.String).alias(TITLE))
    columns = [
        _indices(frame[USER_ID], users[USER_ID], USER_INDEX),
        _indices(frame[ITEM_ID], items[ITEM_ID], ITEM_INDEX),
    ]
    return pl.DataFrame([*columns, *frame.select(kept)]), users[USER_ID].to_numpy(), items


def _indices(ids: pl.Series, distinct: pl.Series, name: str) -> pl.Series:
    lookup = pl.DataFrame([distinct.alias("id"), pl.int_range(len(distinct), dtype=pl.Int32, eager=True).alias(name)])
    return ids.alias("id").to_frame().join(lookup, on="id", how="left", maintain_order="left")[name]


def _filter(
    frame: pl.DataFrame, user_ids: npt.NDArray[np.object_], items: pl.DataFrame, settings: PrepareConfig
) -> _Kept:
    """Return rows, users and items without what the settings leave out, renumbered."""
    dropped: dict[str, int] = {}
    if settings.deduplicate:
        n_before = len(frame)
        frame = deduplicate(frame)
        dropped["duplicate_rows"] = n_before - len(frame)
    found = narrow(frame, items, settings)
    if not found.kept.all():
        frame = frame.filter(pl.Series(found.kept))
    users, taken = frame[USER_INDEX].to_numpy(), frame[ITEM_INDEX].to_numpy()
    user_used, item_used = _occurring(users, len(user_ids)), _occurring(taken, len(items))
    if settings.catalogue == "listed":
        item_used = found.usable
    for name, index, used in ((USER_INDEX, users, user_used), (ITEM_INDEX, taken, item_used)):
        if not used.all():
            renumbered = (np.cumsum(used) - 1).astype(np.int32)
            frame = frame.with_columns(pl.Series(name, renumbered[index]))
    items = items.with_columns(found.titles.alias(TITLE)).filter(pl.Series(item_used))
    return _Kept(frame, user_ids[user_used], items, dropped | found.dropped, found.window)


def _occurring(index: IntArray, n: int) -> BoolArray:
    return np.bincount(index, minlength=n) > 0


def _check_titles(items: pl.DataFrame, settings: PrepareConfig) -> None:
    missing = items.filter(pl.col(TITLE).is_null() | (pl.col(TITLE).str.strip_chars() == ""))
    if len(missing) and settings.missing_title == "error":
        examples = ", ".join(repr(item) for item in missing[ITEM_ID].head(3))
        raise DataError(
            f"{len(missing)} of {len(items)} items have no title, such as {examples}; add them to the items table, "
            "or call them `Untitled item <item_id>` with missing_title=fallback"
        )


def _order(frame: pl.DataFrame, settings: PrepareConfig) -> pl.DataFrame:
    if settings.split == "temporal":
        frame = frame.with_row_index(_ROW)
    keys = [USER_INDEX, ORDER, TIMESTAMP] if settings.order_column else [USER_INDEX, TIMESTAMP]
    return frame.sort(keys, maintain_order=True)


def _tie_break(settings: PrepareConfig, *, is_finer: bool) -> str:
    within = f"by time{', fractions of a second too' if is_finer else ''}, then by place in the file"
    if settings.order_column:
        within = f"by {settings.order_column!r}, then {within}"
    cuts = f"; at the cuts: {_CUT_TIES[settings.cut_ties]}" if settings.split == "temporal" else ""
    return f"within a user: {within}{cuts}"


def _sequences(frame: pl.DataFrame, user_ids: npt.NDArray[np.object_], settings: PrepareConfig) -> UserSequences:
    counts = np.bincount(frame[USER_INDEX].to_numpy(), minlength=len(user_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    timestamps = frame[TIMESTAMP].to_numpy()
    if settings.split == "leave_one_out":
        codes = leave_one_out(offsets)
    elif settings.split == "given":
        codes = given(frame[SPLIT])
    else:
        codes = temporal(
            offsets,
            timestamps,
            frame[_ROW].to_numpy(),
            order=frame[ORDER].to_numpy() if settings.order_column else None,
            train_fraction=settings.train_fraction,
            valid_fraction=settings.valid_fraction,
            ties=settings.cut_ties,
        )
        check_time_order(codes, timestamps)
    check_leakage(codes, offsets, user_ids)
    return UserSequences(user_ids, offsets, frame[ITEM_INDEX].to_numpy(), timestamps, codes)


def _flr_version() -> str:
    try:
        return version("flr")
    except PackageNotFoundError:
        return "unknown"
