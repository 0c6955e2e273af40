"""Which titles can be written by a language model, and what becomes of them: D3's rule, to the letter or mended.

D3 and LatentR3 leave an item out whose title is missing, holds ``<span id``, is shorter than two characters or has
more than 20 words. Before they measure they turn ``&quot;`` and ``&amp;`` into characters and take blanks, then
double quotes, off both ends. Words are what single blanks part, so two blanks in a row count as one word more.

Three oddities follow, which `d3` keeps and `readable` mends:

1. Other markup passes: of 5,841 CDs, 29 are called ``<span class="a-size-medium a-color-secondary a-text-normal``.
2. Each time the window is widened the titles are cleaned once more, so ``&amp;amp;`` depends on the years needed.
3. An item that the metadata list twice is left out if either title is unusable, and else has the last title.

Source: ``code/process.py`` of github.com/SAI990323/DecodingMatters (D3), read in November 2026.
"""

from __future__ import annotations

import html
import re
from typing import Final, Literal

import polars as pl

from flr.records import ITEM_ID, TITLE

Rule = Literal["any", "readable", "d3"]
MAX_WORDS: Final = 20
_MIN_CHARACTERS: Final = 2
_USABLE: Final = "flr_usable"
_TAG: Final = re.compile(r"</?[a-zA-Z!][^<>]*>|</?[a-zA-Z][\w-]*\s+[\w-]+=[^<>]*$")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def apply_title_rule(titles: pl.Series, rule: Rule) -> tuple[pl.Series, pl.Series]:
    """Return titles as a rule cleans them, and whether each is usable.

    Args:
        titles: Text; null where there is none.
        rule: ``any`` changes nothing and takes all that are not blank; ``d3`` and ``readable``: see above.

    >>> cleaned, usable = apply_title_rule(pl.Series(['"Heat"', "Heat &eacute;", "<span class='x", None]), "d3")
    >>> cleaned.to_list(), usable.to_list()
    (['Heat', 'Heat &eacute;', "<span class='x", None], [True, True, True, False])
    >>> cleaned, usable = apply_title_rule(pl.Series(['"Heat"', "Heat &eacute;", "<span class='x", None]), "readable")
    >>> cleaned.to_list(), usable.to_list()
    (['Heat', 'Heat é', '', None], [True, True, False, False])
    """
    if rule == "any":
        return titles, titles.is_not_null() & (titles.str.strip_chars() != "").fill_null(False)
    distinct = titles.drop_nulls().unique().to_list()
    clean, is_usable = (_clean_d3, _usable_d3) if rule == "d3" else (_clean, _usable)
    cleaned = {title: clean(title) for title in distinct}
    usable = {title: is_usable(text) for title, text in cleaned.items()}
    values = titles.to_list()
    return (
        pl.Series(titles.name, [None if title is None else cleaned[title] for title in values], pl.String),
        pl.Series([title is not None and usable[title] for title in values], dtype=pl.Boolean),
    )


def merge_repeated(items: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Return one row per item: where it is listed several times, with the title that a rule gives it.

    Args:
        items: ``item_id`` and ``title``; of any other column the first value that is not null is taken.
        rule: ``any``: the first title that is not blank; ``d3``: the last title, or null if any is unusable;
            ``readable``: the last usable one.
    """
    if not items[ITEM_ID].is_duplicated().any() and rule == "any":
        return items
    _, usable = apply_title_rule(items[TITLE], rule)
    judged = items.with_columns(usable.alias(_USABLE))
    some = pl.col(TITLE).filter(_USABLE)
    chosen = {"any": some.first(), "readable": some.last(), "d3": pl.col(TITLE).last()}[rule]
    good = pl.col(_USABLE).all() if rule == "d3" else pl.col(_USABLE).any()
    others = pl.exclude(ITEM_ID, TITLE, _USABLE).drop_nulls().first()
    merged = judged.group_by(ITEM_ID, maintain_order=True).agg(pl.when(good).then(chosen).alias(TITLE), others)
    return merged.select(items.columns)


def _clean_d3(title: str) -> str:
    if "<span id" in title:
        return title
    return title.replace("&quot;", '"').replace("&amp;", "&").strip(" ").strip('"')


def _usable_d3(title: str) -> bool:
    return "<span id" not in title and len(title) >= _MIN_CHARACTERS and title.count(" ") < MAX_WORDS


def _clean(title: str) -> str:
    before = None
    while before != title:
        before = title
        title = " ".join(_TAG.sub(" ", _ENTITY.sub(lambda found: html.unescape(found[0]), title)).split())
        # A pair of quotes around it goes, the inches of a record at its end stay.
        if len(title) > 1 and title[0] == title[-1] == '"':
            title = title[1:-1]
    return title


def _usable(title: str) -> bool:
    return len(title) >= _MIN_CHARACTERS and len(title.split()) <= MAX_WORDS
