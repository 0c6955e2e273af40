"""LC-Rec and TIGER folders -> interactions: ``<Name>.inter.json`` and ``<Name>.item.json``.

The first is one object, user -> items in the order they were taken; the second item -> fields, `title` among them.
There are no times: the place in a user's list (0, 1, 2 ..) stands in for time and is the order column `pos` as
well, so that a split in global time is refused. Ids are the numbers of these files, not those of the shop.

Source: https://github.com/RUCAIBox/LC-Rec
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.data.readers.formats import PLACE, RawTable, about_file
from flr.data.readers.lines import cell, numbered, shown
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_ID, TIMESTAMP, USER_ID

_INTERACTIONS: Final = ".inter.json"
_NO_TIMES: Final = "none: the place in a user's list stands in for it"
_ITEMS: Final = ".item.json"


def recognises(path: Path) -> bool:
    """Return whether a file is called ``*.inter.json``, or a folder holds exactly one such file."""
    return _file(path).name.endswith(_INTERACTIONS)


def recognises_items(path: Path) -> bool:
    """Return whether a file is called ``*.item.json``."""
    return path.name.endswith(_ITEMS)


def items_beside(path: Path) -> Path | None:
    """Return the ``.item.json`` of the same name."""
    file = _file(path)
    items = file.with_name(file.name.removesuffix(_INTERACTIONS) + _ITEMS)
    return items if items.is_file() else None


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per item of each list; users without items make none and are counted.

    Raises:
        ReadError: The file is no such object, a value is no list of ids, a user stands there twice, or the
            settings ask for a split in time.
    """
    file = _file(path)
    if settings.split == "temporal":
        raise ReadError(f"{str(file)!r} has no times, which split='temporal' needs; use split=leave_one_out")
    users: list[str] = []
    items: list[str] = []
    places: list[int] = []
    n_empty = 0
    for user, taken in _object(file).items():
        if not isinstance(taken, list) or not all(_is_id(item) for item in taken):
            got = shown(json.dumps(taken))
            raise ReadError(f"user {user!r} of {str(file)!r} has {got}; expected a list of item ids; mend the file")
        n_empty += not taken
        users += [user] * len(taken)
        items += [str(item) for item in taken]
        places += range(len(taken))
    frame = pl.DataFrame(
        {USER_ID: users, ITEM_ID: items, TIMESTAMP: places, PLACE: places},
        schema={USER_ID: pl.String, ITEM_ID: pl.String, TIMESTAMP: pl.Int64, PLACE: pl.Int64},
    )
    dropped = {"users_without_items": n_empty} if n_empty else {}
    return RawTable(frame, about_file(file, "lcrec"), dropped, {"order_column": PLACE}, time=_NO_TIMES)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per item: its id and all its fields as text.

    Raises:
        ReadError: The file is no such object, a value is no object, or an item stands there twice.
    """
    rows: list[dict[str, str | None]] = []
    for item, fields in _object(path).items():
        if not isinstance(fields, dict):
            got = shown(json.dumps(fields))
            raise ReadError(
                f"item {item!r} of {str(path)!r} has {got}; expected its fields as an object; mend the file"
            )
        rows.append({name: cell(value) for name, value in fields.items()} | {ITEM_ID: item})
    names = dict.fromkeys([ITEM_ID, *(name for row in rows for name in row)])
    return RawTable(pl.DataFrame(rows, dict.fromkeys(names, pl.String)), about_file(path, "lcrec items"))


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _object(path: Path) -> dict[str, Any]:
    """Return the one object of a file; these files are small, and an object cannot be read in part."""
    try:
        text = b"\n".join(line for _, line in numbered(path)).decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{str(path)!r} is not UTF-8 ({error.reason} at byte {error.start}); convert it, e.g. with `iconv -t UTF-8`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(f"cannot read {str(path)!r} as lcrec: {error}; expected one JSON object; mend it") from error
    if not isinstance(value, dict):
        raise ReadError(f"{str(path)!r} holds {shown(json.dumps(value))}; expected one JSON object; mend the file")
    return value


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ReadError(f"{str(path)!r} has the key {twice!r} twice in one object; expected it once; mend the file")
    return found


def _file(path: Path) -> Path:
    found = sorted(path.glob(f"*{_INTERACTIONS}")) if path.is_dir() else []
    return found[0] if len(found) == 1 else path
