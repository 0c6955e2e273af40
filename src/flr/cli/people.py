"""Whom lists are for: people of a file, or all of a prepared folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flr.errors import ReadError, RequestError

if TYPE_CHECKING:
    import polars as pl

_EXPECTED: Final = 'expected a list such as ["id 1", "id 2"], or {"user_id": "u7", "history": ["id 1", "id 2"]}'


@dataclass(frozen=True)
class People:
    """Ids and histories.

    Attributes:
        frame: ``user_id`` and ``history``, a list of texts; the id of a plain list is the number of its line.
        where: What comes before an id in messages.
        items: ``item_id`` and ``title`` of what they took; None where it is not known.
    """

    frame: pl.DataFrame
    where: str
    items: pl.DataFrame | None = None


def people_of_file(path: Path) -> People:
    """Return the people of a file: JSON lines, or Parquet with ``user_id`` and ``history``.

    Raises:
        ReadError: The file is missing, holds nobody, or cannot be read as either.
    """
    if path.suffix == ".parquet":
        return People(_parquet(path), f"{path}, user")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # titles may hold what else ends a line
    except FileNotFoundError:
        raise ReadError(f"there is no file {str(path)!r}; --histories expects JSON lines or Parquet") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"cannot read {str(path)!r}: {error}; expected JSON lines in UTF-8, or Parquet") from error
    read = [_person(line, number, path) for number, line in enumerate(lines, start=1) if line.strip()]
    if not read:
        raise ReadError(f'{str(path)!r} holds no history; expected JSON lines such as ["id 1", "id 2"]')
    import polars as pl

    schema: dict[str, pl.DataType] = {"user_id": pl.String(), "history": pl.List(pl.String)}
    kind = "user" if any(line.lstrip().startswith("{") for line in lines) else "line"
    return People(pl.DataFrame(read, schema=schema, orient="row"), f"{path}, {kind}")


def people_of_data(folder: Path) -> People:
    """Return all people of a prepared folder, with all that they took, held-out rows included."""
    import polars as pl

    from flr.data.storage import load_prepared

    prepared = load_prepared(folder)
    sequences = prepared.sequences
    items = prepared.items["item_id"].gather(sequences.item_index)
    rows = pl.DataFrame({"user": sequences.users, "history": items})
    histories = rows.group_by("user", maintain_order=True).agg("history")
    ids = pl.Series("user_id", sequences.user_ids.tolist(), dtype=pl.String).gather(histories["user"])
    return People(pl.DataFrame([ids, histories["history"]]), f"{folder}, user", prepared.items)


def shard_of(people: People, text: str | None) -> People:
    """Return the part of people that ``--shard I/N`` names, every N-th from the I-th on.

    Raises:
        RequestError: It is not of that form, or I is not among 1 to N.
    """
    if text is None:
        return people
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, n = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= number <= n:
        raise RequestError(f"--shard {text!r}, expected I/N with I from 1 to N, such as 2/8")
    return replace(people, frame=people.frame.gather_every(n, number - 1))


def _parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
        frame = frame.select(pl.col("user_id").cast(pl.String), pl.col("history").cast(pl.List(pl.String)))
    except FileNotFoundError:
        raise ReadError(f"there is no file {str(path)!r}; --histories expects JSON lines or Parquet") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ReadError(f"cannot read {str(path)!r}: {error}; expected user_id, and history with lists") from error
    if frame.is_empty():
        raise ReadError(f"{str(path)!r} holds no history; expected rows with user_id, and history with lists")
    return frame


def _person(line: str, number: int, path: Path) -> tuple[str, list[str]]:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ReadError(f"{path}, line {number}: {error}; {_EXPECTED}") from None
    user_id, history = str(number), value
    if isinstance(value, dict) and set(value) == {"user_id", "history"}:
        user_id, history = value["user_id"], value["history"]
    if not isinstance(history, list) or not all(isinstance(part, str | int) for part in [user_id, *history]):
        raise ReadError(f"{path}, line {number}: got {line[:80]!r}, {_EXPECTED}")
    return str(user_id), [str(item) for item in history]
