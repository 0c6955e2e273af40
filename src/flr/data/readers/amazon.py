"""Amazon review files as published by the McAuley Lab -> interactions, and their metadata -> items.

======  =========================================================  ========================================
edition reviews, one object a line                                 metadata, one object a line
======  =========================================================  ========================================
2018    reviewerID, asin, overall, unixReviewTime (seconds)        asin, title, brand, category
2023    user_id, parent_asin, rating, timestamp (milliseconds)     parent_asin, title, store, categories
======  =========================================================  ========================================

The edition of 2014 has the names of 2018, in its metadata as Python literals with single quotes. Only the fields
above are kept: reviews are long, and the ``title`` of a review of 2023 is its headline, not the item's name.

Source: https://nijianmo.github.io/amazon/ and https://amazon-reviews-2023.github.io/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.data.readers.batches import Batch, PlainObjects, batches
from flr.data.readers.columns import named_columns
from flr.data.readers.formats import RawTable, about_file
from flr.data.readers.lines import Lines, cell, first_object, numbered, parse_object, shown
from flr.errors import ColumnError, ReadError, nearest
from flr.prepare_config import PrepareConfig

#: Edition -> fields of a review that tell it, all of them needed.
EDITIONS: Final = {
    "amazon 2018": ("reviewerID", "asin", "unixReviewTime"),
    "amazon 2023": ("user_id", "parent_asin", "timestamp"),
}
_RATING: Final = {"amazon 2018": "overall", "amazon 2023": "rating"}
_ITEM: Final = ("parent_asin", "asin", "title", "brand", "store", "category", "categories", "main_category")
_NAME: Final = re.compile(r"\.(json|jsonl)(\.gz)?$")
_ITEMS_NAME: Final = re.compile(r"^meta_.*\.(json|jsonl)(\.gz)?$")
_HALF: Final = re.compile("[\ud800-\udfff]")
_SUFFIXES: Final = (".json.gz", ".jsonl.gz", ".json", ".jsonl")


def recognises(path: Path) -> bool:
    """Return whether the first object of a ``.json`` or ``.jsonl`` file, also gzipped, has the fields of a review."""
    if path.is_dir():
        return len(_reviews_in(path)) == 1
    return _NAME.search(path.name) is not None and _edition(path) is not None


def recognises_items(path: Path) -> bool:
    """Return whether a file is called ``meta_*.json`` or ``meta_*.jsonl``, or is any other ``.json`` of items.

    Items in JSON lines that are called otherwise are tables like any other, of which all columns are kept.
    """
    if _ITEMS_NAME.match(path.name):
        return path.is_file()
    is_json = path.name.removesuffix(".gz").endswith(".json")
    return is_json and not {"asin", "parent_asin"}.isdisjoint(first_object(path))


def items_beside(path: Path) -> Path | None:
    """Return the metadata in the folder of the reviews: ``meta_Toys.json.gz`` for ``Toys_5.json.gz``."""
    file = _only_file(path)
    category = re.sub(r"^reviews_|_\d+$", "", _NAME.sub("", file.name))
    return metadata_of(file.parent, category)


def metadata_of(folder: Path, category: str) -> Path | None:
    """Return the metadata of a category such as ``Toys_and_Games``, if a folder has them."""
    candidates = [folder / f"meta_{category}{suffix}" for suffix in _SUFFIXES]
    return next((one for one in candidates if one.is_file()), None)


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per review, in file order.

    Raises:
        ReadError: The file is damaged, or a line is no object and may not be dropped.
        ColumnError: A column that the settings name is in no object.
    """
    file = _only_file(path)
    edition = _edition(file)
    if edition is None:
        raise not_recognised(file)
    named = named_columns(settings, "user_column", "timestamp_column", "rating_column", "split_column", "order_column")
    # The item's column may be that of the items alone.
    usual = (*EDITIONS[edition], _RATING[edition], *named_columns(settings, "item_column"))
    usual += ("split",) if settings.split == "given" else ()
    return _read_objects(file, usual, named, settings, edition)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per object of a metadata file; lists of categories become text, joined by ``; ``.

    Raises:
        ReadError: The file is damaged, or a line is no object and may not be dropped.
        ColumnError: A column that the settings name is in no object.
    """
    named = named_columns(settings, "title_column", "title_template")
    edition = "amazon 2023 metadata" if "parent_asin" in first_object(path) else "amazon 2018 metadata"
    return _read_objects(path, _ITEM, named, settings, edition)


def not_recognised(path: Path) -> ReadError:
    """Return what to say of a ``.json`` file whose first line is no review."""
    first = next((raw.decode("utf-8", errors="replace") for _, raw in numbered(path)), "")
    fields = " or ".join(", ".join(names) for names in EDITIONS.values())
    return ReadError(
        f"cannot tell the format of {path.name!r} by its name, and it begins with {shown(first)}; expected an Amazon "
        f"review on each line ({fields}); other JSON lines are called .jsonl, the lists of LC-Rec .inter.json"
    )


def _read_objects(
    path: Path, usual: tuple[str, ...], named: tuple[str, ...], settings: PrepareConfig, form: str
) -> RawTable:
    """Return the fields that are usual, where there are any, and those that the settings name, which must be there."""
    names = tuple(dict.fromkeys((*usual, *named)))
    lines, plain = Lines(path, on_bad_row=settings.on_bad_row), PlainObjects(names)
    seen, pieces = set[str](), [_table([], names)]
    with closing(batches(path)) as found:
        for batch in found:
            objects = plain.of_batch(batch) or list(_objects(lines, batch, plain))
            seen.update(name for name in names if any(name in one for one in objects))
            pieces.append(_table(objects, names))
    missing = [name for name in named if name not in seen]
    if missing and (known := sorted(seen | first_object(path).keys())):
        raise ColumnError(f"{str(path)!r} has no column {missing[0]!r}; {nearest(missing[0], known)}")
    frame = pl.concat(pieces).select([name for name in names if name in seen])
    return RawTable(frame, about_file(path, form), lines.dropped)


def _objects(lines: Lines, batch: Batch, plain: PlainObjects) -> Iterator[dict[str, Any]]:
    """Yield the objects of a batch in which a line is not plain, with other fields too, and refuse other lines."""
    for number, text in lines.within(batch.data, batch.first):
        found = plain.of_line(text)
        if found is None:
            found = _odd_object(lines, number, text, plain.names)
        if found is not None:
            yield found


def _odd_object(lines: Lines, number: int, text: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the object on a line that is not plain; None, having refused the line, if it has none of whole characters.

    JSON can write one half of a surrogate pair, which no encoding can hold.
    """
    found = parse_object(text)
    if found is None:
        lines.refuse(number, f"is {shown(text)}", "one JSON object a line, such as " + '{"asin": ..}')
        return None
    cells = [cell(found.get(name)) for name in names]
    half = next((value for value in cells if value and _HALF.search(value)), None)
    if half is not None:
        lines.refuse(number, f"has half of a character in {shown(half)}", "whole characters (a pair of surrogates)")
        return None
    return found


def _table(objects: list[dict[str, Any]], names: tuple[str, ...]) -> pl.DataFrame:
    """Return one row of text per object, null where a field is missing."""
    columns = {name: [cell(one.get(name)) for one in objects] for name in names}
    return pl.DataFrame(columns, dict.fromkeys(names, pl.String))


def _edition(path: Path) -> str | None:
    return _edition_of(first_object(path))


def _edition_of(found: dict[str, Any]) -> str | None:
    return next((name for name, fields in EDITIONS.items() if found.keys() >= set(fields)), None)


def _reviews_in(folder: Path) -> list[Path]:
    files = sorted(one for one in folder.iterdir() if one.is_file() and _NAME.search(one.name))
    return [one for one in files if not one.name.startswith("meta_") and _edition(one) is not None]


def _only_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = _reviews_in(path)
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise ReadError(f"{str(path)!r} is a folder with {names} as files of Amazon reviews; name one file instead")
    return found[0]
