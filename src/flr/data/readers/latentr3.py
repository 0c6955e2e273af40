"""The CSV files of D3 and LatentR3 -> interactions with the official split: ``train``, ``valid``, ``test``, ``info``.

Each of the first three folders holds one CSV of the same name, one target a row: `user_id`, `item_id`, `timestamp`,
`rating` and the history before it, at most its last ten items, as lists (`history_item_id` ..). The ``.txt`` of that
name in ``info`` has title, tab and item id on each line.

A row repeats what earlier rows of its user said, so the rows of a user are linked: the first brings its history as
context (never a target), every other one its target, at the next place `pos` of the user's chain. Each target, its part
and its history are then what the files give: the items before it in the chain, cut to the longest history that there
is (`text.window` = 10 for the official files). Items of a history that no earlier row brought, as in files cut down to
a sample, become context and are counted; a history that contradicts the rows before it is an error. What the record
does not keep: the order of the rows in the files, and the columns that repeat titles and ids of the shop.

    flr prepare --interactions LatentR3/CDs --split given --order-column pos --output data/cds

Source: https://github.com/Mr-Peach0301/Flower for the layout; arXiv 2505.19092 for the split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.data.readers.formats import PLACE, RawTable, about_file, about_files
from flr.data.readers.lines import Lines, Rows, cell, literal, shown
from flr.data.readers.text_tables import read_text_table
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_ID, RATING, SPLIT, TIMESTAMP, TITLE, USER_ID

PARTS: Final = ("train", "valid", "test")
_HISTORY: Final = "history_item_id"
_TIMES: Final = "history_timestamp"
_RATINGS: Final = "history_rating"
#: Item, time and rating.
_Taken = tuple[str, str | None, str | None]
_NEEDED: Final = (USER_ID, ITEM_ID, TIMESTAMP, _HISTORY, _TIMES)


@dataclass(frozen=True)
class _Row:
    """A row of the files: where it stands, its target, and the taken items before it as (item, time, rating)."""

    part: str
    place: str
    target: _Taken
    history: list[_Taken]


@dataclass
class _Chain:
    """All that is known of one user, oldest first, and the part each row was a target of."""

    taken: list[_Taken] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def missing(self, row: _Row, window: int) -> int | None:
        """Return how many last items of a row's history the chain lacks, 0 if possible; None where they contradict.

        What is lacking must be no older than the chain's last item: a full window of other items fits any chain.
        """
        keys, chain = [one[:2] for one in row.history], [one[:2] for one in self.taken[-window:]]
        if not chain:
            return len(keys)
        for n in range(len(keys) + 1):
            first = len(keys) - n
            if (chain + keys[first:])[-window:] == keys and (n == 0 or not _older(keys[first][1], chain[-1][1])):
                return n
        return None

    def ends_with(self, row: _Row, window: int) -> bool:
        """Return whether a row's history is what the chain ends with."""
        return len(row.history) == min(len(self.taken), window) and self.missing(row, window) == 0

    def extend(self, row: _Row, n_missing: int) -> None:
        """Append the last `n_missing` items of a row's history as context, and its target."""
        self.taken += [*row.history[len(row.history) - n_missing :], row.target]
        self.parts += ["context"] * n_missing + [row.part]


def recognises(path: Path) -> bool:
    """Return whether a folder has ``train`` or ``test`` with CSV files with histories, or a file lies in one."""
    if path.is_dir():
        return any(_has_histories(file) for part in PARTS for file in sorted((path / part).glob("*.csv"))[:1])
    return path.suffix == ".csv" and path.parent.name in PARTS and _has_histories(path)


def recognises_items(path: Path) -> bool:
    """Return whether a file is a ``.txt`` in a folder called ``info``."""
    return path.suffix == ".txt" and path.parent.name == "info"


def items_beside(path: Path) -> Path | None:
    """Return the file in ``info``."""
    folder, name = _locate(path)
    info = folder / "info" / f"{name}.txt"
    return info if info.is_file() else None


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the chains of all users, user by user, each row with its part and its place.

    Raises:
        ReadError: A file is damaged, a list is none, lists of a row differ in length, or a history contradicts the
            rows before it.
        ColumnError: A column is missing.
    """
    folder, name = _locate(path)
    files = [file for part in PARTS if (file := folder / part / f"{name}.csv").is_file()]
    rows: dict[str, list[_Row]] = {}
    for file in files:
        for user, row in _rows(file):
            rows.setdefault(user, []).append(row)
    window = max((len(row.history) for some in rows.values() for row in some), default=0)
    table, n_gaps = Rows((USER_ID, ITEM_ID, TIMESTAMP, RATING, SPLIT, PLACE)), 0
    for user, some in rows.items():
        chain, gaps = _link(user, some, window)
        n_gaps += gaps
        for place, (taken, part) in enumerate(zip(chain.taken, chain.parts, strict=True)):
            table.add((user, *taken, part, str(place)))
    about = about_files(folder, "latentr3", files) | {"longest_history": window, "histories_with_unseen_items": n_gaps}
    notes = [f"{n_gaps} histories hold items that no earlier row brought, kept as context"] if n_gaps else []
    if settings.split != "given":
        notes.append("its own split is left aside; keep it with --split given --order-column pos")
    about |= {"note": "; ".join(notes)} if notes else {}
    return RawTable(table.frame(), about, {}, {"order_column": PLACE})


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return id and title of every item of an ``info`` file.

    Raises:
        ReadError: The file is damaged, or a line is not title, tab and id and may not be dropped.
    """
    lines, rows = Lines(path, on_bad_row=settings.on_bad_row), Rows((ITEM_ID, TITLE))
    for number, text in lines:
        title, tab, item = text.rpartition("\t")
        if tab and item.strip():
            rows.add((item.strip(), title or None))
        else:
            lines.refuse(number, f"is {shown(text)}", "title, tab and item id")
    return RawTable(rows.frame(), about_file(path, "latentr3 items"), lines.dropped)


def _older(time: str | None, other: str | None) -> bool:
    try:
        return float(time or "") < float(other or "")
    except ValueError:
        return False


def _link(user: str, rows: list[_Row], window: int) -> tuple[_Chain, int]:
    """Return the chain of one user, and how many rows but the first brought context of their own."""
    # Rows of one time may stand in any order in the files, so the first row that fits goes next.
    first = min(rows, key=lambda row: len(row.history))
    chain, waiting, n_gaps = _Chain(), [row for row in rows if row is not first], 0
    chain.extend(first, len(first.history))
    while waiting:
        place = next((place for place, row in enumerate(waiting) if chain.ends_with(row, window)), None)
        if place is not None:
            chain.extend(waiting.pop(place), 0)
            continue
        gaps = [(n, place) for place, row in enumerate(waiting) if (n := chain.missing(row, window)) is not None]
        if not gaps:
            raise _contradiction(user, waiting[0], chain.taken[-window:])
        n_missing, place = min(gaps)
        chain.extend(waiting.pop(place), n_missing)
        n_gaps += 1
    return chain, n_gaps


def _contradiction(user: str, row: _Row, taken: list[_Taken]) -> ReadError:
    got, known = ([one[0] for one in some] for some in (row.history, taken))
    return ReadError(
        f"{row.place} gives user {user!r} the history {got}, but the rows before it make {known}; "
        "expected each history to go on where the earlier rows of that user ended; mend the files"
    )


def _rows(file: Path) -> Iterator[tuple[str, _Row]]:
    try:
        frame, _ = read_text_table(file, ",", '"')
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ReadError(f"cannot read {str(file)!r} as latentr3: {reason}; mend the file or fetch it again") from error
    missing = [name for name in _NEEDED if name not in frame.columns]
    if missing:
        raise ColumnError(
            f"{str(file)!r} has no column {missing[0]!r}; it has {', '.join(frame.columns)}; expected the columns of D3"
        )
    frame = frame.with_columns(pl.lit(None, pl.String).alias(one) for one in (RATING, _RATINGS) if one not in frame)
    columns = frame.select(*_NEEDED, RATING, _RATINGS).iter_rows()
    for number, (user, item, time, items, times, rating, ratings) in enumerate(columns, 1):
        place = f"data row {number} of {str(file)!r}"
        if user is None or item is None or time is None:
            raise ReadError(f"{place} lacks a user, an item or a time; expected all three; mend the file")
        taken = _list(items, _HISTORY, place)
        whens = _list(times, _TIMES, place)
        rated = [None] * len(taken) if ratings is None else _list(ratings, _RATINGS, place)
        if not len(taken) == len(whens) == len(rated):
            lengths = f"{len(taken)} items, {len(whens)} times and {len(rated)} ratings"
            raise ReadError(f"{place} has a history of {lengths}; expected equal numbers; mend the file")
        history = [(str(one), cell(when), cell(stars)) for one, when, stars in zip(taken, whens, rated, strict=True)]
        yield user, _Row(file.parent.name, place, (item, time, rating), history)


def _list(text: str | None, name: str, place: str) -> list[Any]:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        value = literal(text or "")
    if not isinstance(value, list):
        raise ReadError(f"{name!r} in {place} is {shown(text or '')}; expected a list such as [3, 14]; mend the file")
    return value


def _has_histories(file: Path) -> bool:
    with file.open("rb") as lines:
        header = lines.readline(10_000).decode("utf-8", errors="replace")
    return {_HISTORY, ITEM_ID} <= set(header.strip().split(","))


def _locate(path: Path) -> tuple[Path, str]:
    """Return the folder of the parts and the name that their files share."""
    if not path.is_dir():
        return path.parent.parent, path.stem
    names = sorted({file.stem for part in PARTS for file in (path / part).glob("*.csv")})
    if len(names) != 1:
        raise ReadError(
            f"{str(path)!r} has files called {', '.join(names)}; name one of them, such as train/{names[0]}.csv"
        )
    return path, names[0]
