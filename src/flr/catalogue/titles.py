"""Raw titles -> titles a language model can read and write; no item is ever lost."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import polars as pl

from flr.errors import DataError
from flr.records import ITEM_ID, ITEM_INDEX, TITLE, BoolArray, Catalogue

#: Longer titles are cut here, at the end of a word.
MAX_CHARACTERS: Final = 200
#: What follows after this many raw characters is not looked at: no title is that long, and cleaning takes time.
_MAX_RAW_CHARACTERS: Final = 5_000

_INLINE: Final = "a|abbr|b|big|cite|code|em|font|i|mark|s|small|span|strike|strong|sub|sup|tt|u"
_BLOCK: Final = (
    "blockquote|body|br|button|center|dd|div|dl|dt|form|h[1-6]|head|hr|html|iframe|img|input|label|li|link|meta|"
    "noscript|object|ol|option|p|pre|script|section|select|style|table|tbody|td|textarea|th|thead|title|tr|ul"
)
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
#: Script and style sheets with their content, comments, and a tag that was cut off at the end of the title.
_HIDDEN: Final = re.compile(
    r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)|</?[a-z][\w-]*\s+[\w-]+=[^<>]*$",
    re.IGNORECASE | re.DOTALL,
)
_INLINE_TAG: Final = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_OTHER_TAG: Final = re.compile(
    rf"</?(?:{_BLOCK})(?:\s[^<>]*)?/?>|<[a-z][\w-]*\s+[\w-]+=[^<>]*>|<!doctype[^<>]*>", re.IGNORECASE
)
#: Rules such as ``.a-size { color: red }`` and scripts whose tags somebody took off already. Nothing is tried twice
#: (possessive quantifiers, words from their beginning): titles of requests are cleaned too.
_STYLE: Final = re.compile(r"[.#@][\w-]++\s*+\{[^{}]*+\}|(?<![\w-])[\w-]++\s*+\{\s*+[\w-]++\s*+:[^{};]*+;[^{}]*+\}")
_SCRIPT: Final = re.compile(r"\(?\bfunction\s*+\w*+\s*+\([^()]*+\)\s*+\{.*$|\bvar\s++\w++\s*+=.*$", re.DOTALL)
_INVISIBLE: Final = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def clean_title(text: str) -> str:
    """Return a title as a reader would see it, or an empty string when nothing of it is readable.

    HTML entities (also repeatedly encoded ones) become characters; tags, scripts and style sheets go; control
    and invisible characters go; white space becomes single blanks; Unicode is composed (NFC); what is longer
    than `MAX_CHARACTERS` ends at a word. Case stays. Cleaning a clean title changes nothing.

    >>> clean_title("Blue  &amp;Ouml;yster <b>Cult</b>")
    'Blue Öyster Cult'
    >>> clean_title('<span class="a-size-medium a-text-normal')
    ''
    """
    text, before = text[:_MAX_RAW_CHARACTERS], None
    while before != text:
        before = text
        if "&" in text:
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
        if "<" in text:
            text = _OTHER_TAG.sub(" ", _INLINE_TAG.sub("", _HIDDEN.sub(" ", text)))
        if "{" in text:
            text = _STYLE.sub(" ", text)
        if "function" in text or "var" in text:
            text = _SCRIPT.sub(" ", text)
        if not text.isascii():
            text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
        if not text.isprintable():
            text = _CONTROL.sub(" ", text)
        text = _shorten(" ".join(text.split()))
    return text


def build_catalogue(items: pl.DataFrame, retired: BoolArray | None = None) -> Catalogue:
    """Return the catalogue of an items table: cleaned titles, and a leaf for each distinct one.

    An item whose title is missing, or of which cleaning leaves nothing, is called ``Untitled item <item_id>``.
    Items with equal cleaned titles share a leaf (METHOD 5).

    Args:
        items: ``item_id`` and ``title`` (may be null), one row per item in the order of their index; further
            columns become attributes.
        retired: True at items that are not recommended any more, [N]; None where there are none.

    Raises:
        DataError: There are no items, or all are retired.
    """
    if items.is_empty():
        raise DataError("there are no items to build a catalogue of; expected at least one row")
    ids = items[ITEM_ID].cast(pl.String)
    cleaned = clean_titles(items[TITLE])
    titles = [title or f"Untitled item {name}" for name, title in zip(ids, cleaned, strict=True)]
    attributes = items.drop(ITEM_ID, TITLE, ITEM_INDEX, strict=False)
    return catalogue_of(ids.to_list(), titles, attributes if attributes.width else None, retired)


def clean_titles(raw: pl.Series) -> list[str]:
    """Return cleaned titles, empty where there is none; each distinct title is cleaned once."""
    raw = raw.cast(pl.String)
    cleaned = {title: clean_title(title) for title in raw.drop_nulls().unique().to_list()}
    return [cleaned.get(title, "") for title in raw.to_list()]


def catalogue_of(
    item_ids: Sequence[str], titles: Sequence[str], attributes: pl.DataFrame | None, retired: BoolArray | None
) -> Catalogue:
    """Return the catalogue of items whose titles are clean, with a leaf for each distinct title.

    Args:
        item_ids, titles: Of each item, [N].
        attributes: Further columns, one row per item.
        retired: True at items that are not recommended any more, [N]; None where there are none.

    Raises:
        DataError: All items are retired.
    """
    if retired is not None and not retired.any():
        retired = None
    if retired is not None and retired.all():
        raise DataError(f"all {len(retired)} items are taken out, which leaves nothing to recommend; keep at least one")
    named = pl.DataFrame({TITLE: list(titles)})
    # Titles that can be recommended come first, so that they are the leaves of the trie.
    in_order = named if retired is None else named.filter(~retired).vstack(named.filter(retired))
    distinct = in_order.unique(TITLE, maintain_order=True).with_row_index("leaf")
    leaf = named.join(distinct, on=TITLE, how="left", maintain_order="left")["leaf"].cast(pl.Int32)
    return Catalogue(
        item_ids=pl.Series(list(item_ids)).to_numpy(),
        titles=named[TITLE].to_numpy(),
        leaf=leaf.to_numpy(),
        leaf_titles=distinct[TITLE].to_numpy(),
        attributes=attributes,
        retired=retired,
    )


def _shorten(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    end = text.rfind(" ", 0, MAX_CHARACTERS + 1)
    # One endless word is cut where it is.
    return text[: end if end > MAX_CHARACTERS // 2 else MAX_CHARACTERS].rstrip(" ,;:-(")
