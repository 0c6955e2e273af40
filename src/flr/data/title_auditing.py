"""Titles that a language model would stumble over."""

from __future__ import annotations

from typing import Final

import polars as pl

from flr.data.findings import Finding, finding
from flr.records import ITEM_ID, TITLE

#: Entities, tags, and what style sheets and scripts leave behind.
REMNANTS: Final = (
    r"&(#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]+);"
    r"|</?[a-zA-Z!][^<>]*>|</?[a-zA-Z][\w-]*\s+[\w-]+=[^<>]*$"
    r"|\{[^{}]*:[^{}]*[;}]|\bfunction\s*\(|\bvar\s+\w+\s*="
)


def title_findings(items: pl.DataFrame) -> tuple[Finding, ...]:
    """Return what is wrong with the titles of a catalogue.

    Args:
        items: ``item_id`` and ``title`` (may be null), one row per item.
    """
    n_items = len(items)
    text = items.with_columns(pl.col(TITLE).str.strip_chars())
    missing = text.filter(pl.col(TITLE).is_null() | (pl.col(TITLE) == ""))
    present = text.filter(pl.col(TITLE).is_not_null() & (pl.col(TITLE) != ""))
    shared = present.filter(pl.col(TITLE).is_duplicated())
    remnants = present.filter(pl.col(TITLE).str.contains(REMNANTS))
    return (
        finding(
            "missing_titles",
            len(missing),
            n_items,
            missing[ITEM_ID].head(3).to_list(),
            "An item without a title can only be told by its id, which a language model knows nothing about.",
        ),
        finding(
            "duplicate_titles",
            len(shared),
            n_items,
            shared[TITLE].unique(maintain_order=True).head(3).to_list(),
            "Items with one title share its probability; crediting titles instead of ids would count wrong hits.",
        ),
        finding(
            "html_titles",
            len(remnants),
            n_items,
            remnants[TITLE].head(3).to_list(),
            "Markup costs tokens and makes titles alike that are not; the catalogue cleans it, raw comparisons do not.",
        ),
    )
