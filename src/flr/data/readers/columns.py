"""Which column of anybody's table plays which role, and what ids and titles its cells make."""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from flr.errors import ColumnError, nearest
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_ID, ORDER, RATING, SPLIT, TIMESTAMP, TITLE, USER_ID

#: Names under which public data sets have these columns, most telling first.
STANDARD_NAMES: Final = {
    USER_ID: ("user_id", "user", "userId", "userid", "uid", "reviewerID", "reviewer_id"),
    ITEM_ID: ("item_id", "item", "itemId", "itemid", "iid", "parent_asin", "asin", "movieId", "movie_id"),
    TIMESTAMP: ("timestamp", "time", "unixReviewTime", "unix_timestamp", "ts", "datetime", "date"),
    RATING: ("rating", "overall", "score", "stars"),
    TITLE: ("title", "item_title", "movie_title", "name"),
    SPLIT: ("split",),
    ORDER: (),
}
_SETTING: Final = {USER_ID: "user_column", ITEM_ID: "item_column"}


def settings_for(table: pl.DataFrame, other: pl.DataFrame | None, settings: PrepareConfig) -> PrepareConfig:
    """Return the settings for one of two tables: without ``item_column`` where only the other one has that column.

    Rows may call `sku` what the items call `item_id`, or the reverse. Where neither table has the column, or this
    one has no standard name either, the settings stay, and `find_column` says what is missing.
    """
    named = settings.item_column
    is_others = other is not None and named in other.columns and named not in table.columns
    if is_others and any(name in table.columns for name in STANDARD_NAMES[ITEM_ID]):
        return settings.model_copy(update={"item_column": None})
    return settings


def find_column(table: pl.DataFrame, role: str, settings: PrepareConfig, where: str) -> str | None:
    """Return the column that plays `role`, or None where no standard name is there.

    Raises:
        ColumnError: The settings name a column that the table does not have, or the column holds lists or records.
    """
    setting = _SETTING.get(role, f"{role}_column")
    named: str | None = getattr(settings, setting)
    if named is not None and named not in table.columns:
        raise ColumnError(f"{where!r} has no column {named!r} ({setting}); {nearest(named, table.columns)}")
    name = named or next((name for name in STANDARD_NAMES[role] if name in table.columns), None)
    if name is None or not (table[name].dtype.is_nested() or table[name].dtype == pl.Object):
        return name
    if role == RATING and named is None and settings.min_rating is None:
        return None
    raise ColumnError(
        f"column {name!r} of {where!r} has type {table[name].dtype}, expected one value a row for the {role}; "
        f"unpack it, or name another column with {setting}=..."
    )


def needed_column(table: pl.DataFrame, role: str, settings: PrepareConfig, where: str) -> str:
    """Return the column that plays `role`.

    Raises:
        ColumnError: No standard name is there; else as in `find_column`.
    """
    name = find_column(table, role, settings, where)
    if name is None:
        setting = _SETTING.get(role, f"{role}_column")
        known = ", ".join(STANDARD_NAMES[role])
        headless = any(re.fullmatch(r"[\d.]+", column) for column in table.columns)
        hint = "Its first line looks like a row: write a header line above it. " if headless else ""
        raise ColumnError(
            f"{where!r} has no {role} column; it has {', '.join(table.columns)}. {hint}"
            f"Name the column with {setting}=..., or call it one of: {known}"
        )
    return name


def ids_of(column: pl.Series) -> pl.Series:
    """Return ids as strings, whole numbers that a file holds as floats without their ``.0``.

    Empty ones, NaN, and bytes that are not UTF-8, are null.
    """
    if column.dtype.is_float():
        return column.to_frame().select(text_of(column)).to_series()
    text = _decoded(column) if column.dtype == pl.Binary else column.cast(pl.String, strict=False)
    return text.set(text == "", None) if column.dtype == pl.String and bool((text == "").any()) else text


def _decoded(column: pl.Series) -> pl.Series:
    """Return bytes as text, null where they are not UTF-8, one of which Polars takes for the end."""
    cells = [None if cell is None else cell.decode("utf-8", errors="replace") for cell in column]
    text = pl.Series(column.name, cells, pl.String)
    return text.set(text.str.contains("\N{REPLACEMENT CHARACTER}", literal=True), None)


def text_of(column: pl.Series) -> pl.Expr:
    """Return a column as text: whole numbers among floats lose their ``.0``, and NaN is null."""
    text = pl.col(column.name)
    if not column.dtype.is_float():
        return pl.lit(_decoded(column)) if column.dtype == pl.Binary else text.cast(pl.String)
    whole = text.cast(pl.Int64, strict=False)
    return pl.when(text.is_nan().not_()).then(
        pl.coalesce(pl.when(whole == text).then(whole).cast(pl.String), text.cast(pl.String))
    )


def fill_template(template: str, table: pl.DataFrame, where: str) -> pl.Expr:
    """Return titles made of columns: a bracketed part with an empty column vanishes, any other makes no title.

    Raises:
        ColumnError: The template names a column that the table does not have.
    """
    parts = []
    for piece in re.split(r"(\s*\([^()]*\))", template):
        words = re.split(r"\{([^{}]*)\}", piece)
        missing = [name for name in words[1::2] if name not in table.columns]
        if missing:
            hint = nearest(missing[0], table.columns)
            raise ColumnError(f"{where!r} has no column {missing[0]!r} of the title_template {template!r}; {hint}")
        filled = [text_of(table[word]) if place % 2 else pl.lit(word) for place, word in enumerate(words)]
        part = pl.concat_str(filled, ignore_nulls=False)
        parts.append(part.fill_null("") if piece.lstrip().startswith("(") else part)
    return pl.concat_str(parts, ignore_nulls=False)


def named_columns(settings: PrepareConfig, *names: str) -> tuple[str, ...]:
    """Return the columns that settings of these names speak of; a template may speak of several."""
    found: list[str] = []
    for name in names:
        value: str | None = getattr(settings, name)
        found += [] if value is None else re.findall(r"\{([^{}]*)\}", value) if name == "title_template" else [value]
    return tuple(found)
