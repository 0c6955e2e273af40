"""Tables with anybody's column names -> `Interactions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from flr.data.readers.columns import (
    STANDARD_NAMES,
    fill_template,
    find_column,
    ids_of,
    needed_column,
    settings_for,
    text_of,
)
from flr.data.readers.times import Times, as_whole, numbers_of, read_times
from flr.data.title_rules import apply_title_rule, merge_repeated
from flr.errors import DataError, ReadError
from flr.prepare_config import PrepareConfig
from flr.records import FINER, ITEM_ID, ITEM_INDEX, ORDER, RATING, SPLIT, TIMESTAMP, TITLE, USER_ID, Interactions

_READ_AS: Final = {TIMESTAMP: "no time (epoch number or ISO 8601, as the others are)", ORDER: "no number"}

#: Columns of Amazon's reviews of 2023, whose `title` is the headline of a review and not the name of an item.
_AMAZON_REVIEW: Final = {"user_id", "parent_asin", "rating", "title", "text"}


@dataclass(frozen=True)
class Table:
    """A table as it was read, and the column that plays each role in it."""

    frame: pl.DataFrame
    where: str
    columns: dict[str, str]


def assemble(
    interactions: pl.DataFrame, items: pl.DataFrame | None, settings: PrepareConfig, source: dict[str, Any]
) -> Interactions:
    """Return the record that two tables make.

    Args:
        interactions: One row per interaction, columns as in the file.
        items: One row per item; None takes titles from the interactions, where they have any.
        settings: Column names, and what to do with unreadable rows.
        source: ``{"interactions": {"path": ..}, "items": {"path": ..} | None}``; told further what was found.

    Raises:
        ColumnError: A column is missing.
        ReadError: Rows lack a user, an item or a readable time, and `settings` do not say to drop them.
        DataError: There are no rows, one item has several titles, or no item of the interactions is listed.
    """
    table = _locate(interactions, settings_for(interactions, items, settings), source["interactions"]["path"])
    frame, form, reasons = _interactions_frame(table, settings)
    dropped = {"unreadable_rows": sum(reasons.values())} if reasons else {}
    told: dict[str, Any] = {}
    n_several = 0
    if items is None and not _has_titles(interactions, settings):
        listed = frame.select(ITEM_ID).unique(maintain_order=True).with_columns(_no_title())
    elif items is None:
        listed, _, n_several = _items_frame(interactions, settings, table.where, only_titles=True)
    else:
        of_items = settings_for(items, interactions, settings)
        listed, n_repeated, n_several = _items_frame(items, of_items, source["items"]["path"], only_titles=False)
        dropped |= {"repeated_item_rows": n_repeated} if n_repeated else {}
        told = _listed(frame[ITEM_ID], listed[ITEM_ID], table, source["items"]["path"])
    told |= {"unreadable_ratings": _lost_ratings(table), "unreadable_rows": reasons}
    told |= {"items_with_several_titles": n_several}
    source = {**source, "columns": table.columns, "time": form, **{name: what for name, what in told.items() if what}}
    return Interactions(frame, listed, source, dropped)


def _locate(frame: pl.DataFrame, settings: PrepareConfig, where: str) -> Table:
    if frame.is_empty():
        raise DataError(f"{where!r} has no rows; expected one row per interaction")
    needed = [USER_ID, ITEM_ID, TIMESTAMP, *([SPLIT] if settings.split == "given" else [])]
    columns = {role: needed_column(frame, role, settings, where) for role in needed}
    for role in (RATING, ORDER):
        name = find_column(frame, role, settings, where)
        if name is not None:
            columns[role] = name
    return Table(frame, where, columns)


def _interactions_frame(table: Table, settings: PrepareConfig) -> tuple[pl.DataFrame, str, dict[str, int]]:
    """Return the readable rows, how their times were written, and why how many rows were dropped."""
    column = {role: table.frame[name] for role, name in table.columns.items()}
    times = read_times(column[TIMESTAMP], f"column {table.columns[TIMESTAMP]!r} of {table.where!r}")
    read = {USER_ID: ids_of(column[USER_ID]), ITEM_ID: ids_of(column[ITEM_ID]), TIMESTAMP: times.seconds}
    for role, kind in ((RATING, pl.Float64), (SPLIT, pl.String)):
        if role in column:
            read[role] = column[role].cast(kind, strict=False)
    if ORDER in column:
        read[ORDER] = _order_of(column[ORDER])
    frame = pl.DataFrame([values.alias(role) for role, values in read.items()])
    needed = [role for role in (USER_ID, ITEM_ID, TIMESTAMP, ORDER) if role in read]
    good = frame.select(pl.all_horizontal(pl.col(needed).is_not_null())).to_series()
    n_bad = len(good) - int(good.sum())
    reasons = _reasons(table, frame.select(needed)) if n_bad else {}
    if n_bad and settings.on_bad_row == "error":
        raise _bad_row(table, frame.select(needed), reasons)
    if n_bad == len(frame):
        raise DataError(
            f"none of the {n_bad} rows of {table.where!r} has a user, an item and a readable time "
            f"({_counted(reasons)}); mend the file, or name other columns"
        )
    frame, form = _keep(frame, times, good if n_bad else None)
    return frame, form, reasons


def _order_of(column: pl.Series) -> pl.Series:
    """Return what orders rows as whole numbers: the numbers themselves, or their ranks where some have fractions."""
    numbers = numbers_of(column)
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
        whole = as_whole(numbers)
        numbers = numbers.rank("dense") if whole is None else whole
    return numbers.cast(pl.Int64, strict=False)


def _keep(frame: pl.DataFrame, times: Times, good: pl.Series | None) -> tuple[pl.DataFrame, str]:
    if times.finer is None:
        return frame if good is None else frame.filter(good), times.form
    # Whole seconds would tie rows that the file tells apart; file order, which breaks ties, is made to agree.
    frame = frame.with_columns(times.finer.alias(FINER))
    frame = (frame if good is None else frame.filter(good)).sort(FINER, maintain_order=True)
    return frame, f"{times.form}, rows put in the order of their fractions of a second"


def _reasons(table: Table, read: pl.DataFrame) -> dict[str, int]:
    """Return what is wrong with rows that cannot be read -> how many, each row counted at its first problem."""
    reasons, left = {}, pl.repeat(True, len(read), dtype=pl.Boolean, eager=True)
    for role in read.columns:
        cells, lost = table.frame[table.columns[role]], left & read[role].is_null()
        empty = cells.is_null() | (cells == "") if cells.dtype == pl.String else cells.is_null()
        reasons[f"{table.columns[role]!r} is empty"] = int((lost & empty).sum())
        reasons[f"{table.columns[role]!r} is {_READ_AS.get(role, 'not readable')}"] = int((lost & ~empty).sum())
        left &= ~lost
    return {reason: n for reason, n in reasons.items() if n}


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{n:,} where {reason}" for reason, n in reasons.items())


def _bad_row(table: Table, read: pl.DataFrame, reasons: dict[str, int]) -> ReadError:
    nulls = read.select(pl.all().is_null())
    row = int(nulls.select(pl.any_horizontal(pl.all()).arg_max()).item())
    role = next(role for role in read.columns if nulls[role][row])
    name = table.columns[role]
    value = table.frame[name][row]
    problem = "is empty" if value is None or value == "" else f"is {value!r}, {_READ_AS.get(role, 'not readable')}"
    n_bad, why = sum(reasons.values()), f": {_counted(reasons)}" if len(reasons) > 1 else ""
    others = f" ({n_bad} unreadable rows in all{why})" if n_bad > 1 else ""
    return ReadError(
        f"{name!r} in data row {row + 1} of {table.where!r} {problem}{others}; "
        "mend the file, or drop such rows with on_bad_row=drop"
    )


def _lost_ratings(table: Table) -> int:
    """Return how many ratings are no numbers; their rows stay unless ``min_rating`` asks for a rating."""
    if RATING not in table.columns:
        return 0
    ratings = table.frame[table.columns[RATING]]
    return ratings.cast(pl.Float64, strict=False).null_count() - ratings.null_count()


def _has_titles(table: pl.DataFrame, settings: PrepareConfig) -> bool:
    if settings.title_template is not None or settings.title_column is not None:
        return True
    return not _AMAZON_REVIEW.issubset(table.columns) and any(name in table.columns for name in STANDARD_NAMES[TITLE])


def _no_title() -> pl.Expr:
    return pl.lit(None, dtype=pl.String).alias(TITLE)


def _items_frame(
    table: pl.DataFrame, settings: PrepareConfig, where: str, *, only_titles: bool
) -> tuple[pl.DataFrame, int, int]:
    """Return ids, titles and attributes of items, how many rows repeated one, and how many have several titles."""
    item = needed_column(table, ITEM_ID, settings, where)
    if settings.title_template is not None:
        used, title = {item}, fill_template(settings.title_template, table, where)
    elif find_column(table, TITLE, settings, where) is None and settings.missing_title != "error":
        used, title = {item}, _no_title()
    else:
        name = needed_column(table, TITLE, settings, where)
        used, title = {item, name}, text_of(table[name])
    attributes = [] if only_titles else [name for name in table.columns if name not in used]
    kept = [pl.col(name).alias(_attribute_name(name, attributes)) for name in attributes]
    frame = pl.DataFrame([ids_of(table[item]).alias(ITEM_ID), *table.select(title.alias(TITLE), *kept)])
    nameless = frame[ITEM_ID].null_count()
    if nameless and settings.on_bad_row == "error":
        raise ReadError(f"{nameless} rows of {where!r} have no {item!r}; mend them, or use on_bad_row=drop")
    frame = frame.filter(pl.col(ITEM_ID).is_not_null())
    unique = merge_repeated(frame, settings.title_rule)
    several = _several_titles(frame, settings) if len(unique) < len(frame) else []
    if several and settings.on_bad_row == "error" and (only_titles or settings.title_rule == "any"):
        item, names = several[0]
        raise DataError(
            f"{len(several)} items of {where!r} have several titles, such as {item!r}: {names[0]!r} and {names[1]!r}; "
            "mend them, or keep one of each with on_bad_row=drop"
        )
    return unique, nameless + len(frame) - len(unique), len(several)


def _attribute_name(name: str, others: list[str]) -> str:
    """Return what an attribute is called: another name, that no other has, where it is one of ours."""
    ours = (ITEM_ID, TITLE, ITEM_INDEX)
    if name not in ours:
        return name
    while name in (*ours, *others):
        name = f"{name}_attribute"
    return name


def _several_titles(frame: pl.DataFrame, settings: PrepareConfig) -> list[tuple[str, list[str]]]:
    """Return the items that have more than one usable title, as the rule cleans them, with these titles."""
    titles, usable = apply_title_rule(frame[TITLE], settings.title_rule)
    named = frame.select(ITEM_ID, titles.alias(TITLE)).filter(usable)
    titles_of = named.group_by(ITEM_ID, maintain_order=True).agg(pl.col(TITLE).unique(maintain_order=True))
    return titles_of.filter(pl.col(TITLE).list.len() > 1).rows()


def _listed(taken: pl.Series, listed: pl.Series, table: Table, where: str) -> dict[str, Any]:
    """Return how many items of the interactions are not in the items table, and whether few are, under half of them.

    Raises:
        DataError: None is, though the table has items.
    """
    taken = taken.unique(maintain_order=True)
    n_found = int(taken.is_in(listed.implode()).sum())
    if not n_found and len(listed):
        raise DataError(
            f"none of the {len(taken):,} items of {table.where!r} is in {where!r}: the interactions have ids such as "
            f"{taken[0]!r}, the items table {listed[0]!r}; check the item column of both (item_column=...)"
        )
    few = {"found": n_found, "of": len(taken)} if n_found * 2 < len(taken) else {}
    return {"unlisted_items": len(taken) - n_found, "few_items_listed": few}
