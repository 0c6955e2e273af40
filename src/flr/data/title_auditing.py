"""Titles that a language model would stumble over."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from flr.data.findings import N_EXAMPLES, Finding, finding
from flr.records import ITEM_ID, TITLE, BoolArray, IntArray

#: Tags, and what style sheets and scripts leave behind.
MARKUP: Final = (
    r"</?[a-zA-Z!][^<>]*>|</?[a-zA-Z][\w-]*\s+[\w-]+=[^<>]*$"
    r"|\{[^{}]*:[^{}]*[;}]|\bfunction\s*\(|\bvar\s+\w+\s*="
)
#: Characters written as HTML does.
ENTITIES: Final = r"&(#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]+);"


def title_masks(items: pl.DataFrame) -> dict[str, BoolArray]:
    """Return which items have each defect, [N] each.

    ``missing``: null or blank; ``shared``: another item has the same title, but for white space around it; ``html``:
    tags, style sheets or scripts; ``entity``: characters written as HTML does, but nothing worse.

    Args:
        items: ``item_id`` and ``title`` (may be null), one row per item.
    """
    title = items[TITLE].cast(pl.String).str.strip_chars().fill_null("")
    missing = (title == "").to_numpy()
    html = title.str.contains(MARKUP).to_numpy()
    return {
        "missing": missing,
        "shared": title.is_duplicated().to_numpy() & ~missing,
        "html": html,
        "entity": title.str.contains(ENTITIES).to_numpy() & ~html,
    }


def title_numbers(items: pl.DataFrame) -> IntArray:
    """Return a number for each item's title, [N] int64: items of one title share it, an item without one has its own.

    >>> title_numbers(pl.DataFrame({"title": ["Music", None, "Music ", None]})).tolist()
    [0, 1, 0, 2]
    """
    title = items[TITLE].cast(pl.String).str.strip_chars().fill_null("")
    own = pl.int_range(len(items), eager=True).cast(pl.String)
    named = pl.select(pl.when(title == "").then("-" + own).otherwise("+" + title)).to_series()
    distinct = named.unique(maintain_order=True).alias("named").to_frame().with_row_index("number")
    numbers = named.alias("named").to_frame().join(distinct, on="named", how="left", maintain_order="left")["number"]
    return numbers.to_numpy().astype(np.int64)


def title_findings(items: pl.DataFrame) -> tuple[Finding, ...]:
    """Return what is wrong with the titles of a catalogue.

    Args:
        items: ``item_id`` and ``title`` (may be null), one row per item.
    """
    masks = {name: pl.Series(mask) for name, mask in title_masks(items).items()}
    title = items[TITLE].cast(pl.String).str.strip_chars()
    told = (
        (
            "missing_titles",
            masks["missing"],
            items[ITEM_ID].filter(masks["missing"]),
            "An item without a title can only be told by its id, which a language model knows nothing about.",
        ),
        (
            "duplicate_titles",
            masks["shared"],
            title.filter(masks["shared"]).unique(maintain_order=True),
            "Items with one title share its probability; crediting titles instead of ids would count wrong hits.",
        ),
        (
            "html_titles",
            masks["html"],
            title.filter(masks["html"]),
            "Markup costs tokens and may be all there is; cleaning then leaves no name, and raw comparisons see a tie.",
        ),
        (
            "entity_titles",
            masks["entity"],
            title.filter(masks["entity"]),
            "Encoded characters cost tokens; the catalogue decodes them, raw comparisons of titles do not.",
        ),
    )
    return tuple(
        finding(name, int(mask.sum()), len(items), examples.head(N_EXAMPLES).to_list(), effect)
        for name, mask, examples, effect in told
    )
