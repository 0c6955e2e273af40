"""Which items a request allows: by id, and by what their attributes say."""

from __future__ import annotations

import math
import reprlib
import threading
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from flr.arguments import check_list
from flr.catalogue.attributes import innermost
from flr.errors import RequestError, nearest
from flr.records import BoolArray, Catalogue, FloatArray, IntArray

#: Of more values the nearest is not looked for: a wrong one would cost more than many answers.
_MOST_COMPARED = 2_000
#: What an attribute is compared with.
Value = str | int | float | bool
#: Parts all texts of an attribute if any of them has it.
_BAR = "|"
#: Signs that part the values of a text of other attributes; where it has none of them, blanks do. The bar is one of
#: them too, for items that came later.
_SIGNS = r"[|;,]"


@dataclass(frozen=True)
class Between:
    """Numbers in a range, both ends included.

    Attributes:
        low, high: The ends; None leaves one open.

    Raises:
        RequestError: Both are None, one is no finite number, or `low` is above `high`.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if end is not None and not _is_finite(end):
                raise RequestError(f"a range from {self.low!r} to {self.high!r}: {end!r} is no finite number")
        if self.low is None and self.high is None:
            raise RequestError("a range has neither a low nor a high end; give one of them")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise RequestError(f"a range from {self.low!r} to {self.high!r} holds nothing; give the lower end first")


#: What a filter asks for.
Wanted = Value | Between


@dataclass(frozen=True)
class ItemFilter:
    """What may be recommended; all conditions must hold.

    Attributes:
        allow: Ids of the only items that may; None allows all.
        exclude: Ids of items that may not, such as what is out of stock.
        where: Attribute -> a value or several; an item must have one of them, for every attribute named. A list has
            each of its elements as a value. A text has itself and its parts. Where any text of the attribute has a
            ``|``, all are parted there and nowhere else, so ``Jazz & Blues`` beside ``Rock|Blues`` stays whole.
            Otherwise parts lie between ``;`` or ``,``; where there is none of these, they are words: a film of the
            category ``Action Sci-Fi`` is found by ``Sci-Fi``. A `Between` stands for all numbers in it, and for texts
            that are one, such as ``"1996"``.
    """

    allow: Collection[str] | None = None
    exclude: Collection[str] = ()
    where: Mapping[str, Wanted | Collection[Wanted]] = field(default_factory=dict)


@dataclass(frozen=True)
class AllowedItems:
    """What each of B histories may be recommended.

    Attributes:
        masks: True at allowed items, one row per distinct filter, [F, N].
        of_row: The filter of each history, [B].
    """

    masks: BoolArray
    of_row: IntArray

    def at(self, rows: IntArray) -> BoolArray:
        """Return True at what some of the histories may be recommended, [len(rows), N]."""
        allowed: BoolArray = self.masks[self.of_row[rows]]
        return allowed


class AttributeIndex:
    """Which items have which value of an attribute; an attribute is looked through once, when it is first asked for.

    Args:
        catalogue: Its items.
        before: The index of the catalogue that was edited into this one; it has decided how texts are parted, so that
            a new item changes nothing for others. None: the catalogue says it, or else its texts decide.
    """

    def __init__(self, catalogue: Catalogue, before: AttributeIndex | None = None) -> None:
        self._frame = pl.DataFrame() if catalogue.attributes is None else catalogue.attributes
        kept = catalogue.barred if before is None else before.barred
        #: Attributes whose texts are parted at bars only.
        self.barred: frozenset[str] = _barred(self._frame) if kept is None else kept
        self._n_items = catalogue.n_items
        self._items: dict[str, dict[object, IntArray]] = {}
        self._numbers: dict[str, tuple[FloatArray, IntArray]] = {}
        self._looking = threading.Lock()

    def mask(self, where: Mapping[str, Wanted | Collection[Wanted]], *, skips_unknown: bool = False) -> BoolArray:
        """Return True at the items that have one of the values of every attribute, [N].

        Args:
            where: See `ItemFilter`.
            skips_unknown: Let a value that no item has match nothing, as a range without items always does.

        Raises:
            RequestError: `where` is no mapping, or no item has the attribute, one of the values, or any number where
                a range is asked for.
        """
        _check_where(where)
        mask = np.ones(self._n_items, dtype=bool)
        for attribute, wanted in where.items():
            values = [wanted] if isinstance(wanted, Value) or not isinstance(wanted, Collection) else list(wanted)
            found = self._of(attribute)
            matching = np.zeros(self._n_items, dtype=bool)
            for value in values:
                if isinstance(value, Between):
                    matching[self._within(attribute, value)] = True
                    continue
                items = found.get(self._key(attribute, value))
                if items is not None:
                    matching[items] = True
                elif not skips_unknown:
                    raise RequestError(f"no item has {attribute} = {value!r}; {_hint(str(value), found)}")
            mask &= matching
        return mask

    def items(self, attribute: str, value: Value) -> IntArray:
        """Return the indices of the items that have a value, none where no item has it.

        Raises:
            RequestError: No item has the attribute.
        """
        none = np.empty(0, dtype=np.int64)
        return self._of(attribute).get(self._key(attribute, value), none)

    def numbers(self, attribute: str) -> tuple[FloatArray, IntArray]:
        """Return the numbers that items have, ascending, and whose each is; of texts, those that are one, [n] each.

        Raises:
            RequestError: No item has the attribute, or it cannot be told by values.
        """
        with self._looking:
            if attribute not in self._numbers:
                self._numbers[attribute] = self._sorted(attribute)
            return self._numbers[attribute]

    def _within(self, attribute: str, asked: Between) -> IntArray:
        """Return the items that have a number within a range."""
        numbers, items = self.numbers(attribute)
        if not len(numbers):
            raise RequestError(f"{attribute} holds no numbers, so that it cannot be asked for {_shown(asked)}")
        first = 0 if asked.low is None else np.searchsorted(numbers, asked.low, side="left")
        after = len(numbers) if asked.high is None else np.searchsorted(numbers, asked.high, side="right")
        return items[first:after]

    def _of(self, attribute: str) -> dict[object, IntArray]:
        with self._looking:
            if attribute not in self._items:
                self._items[attribute] = self._look_through(attribute)
            return self._items[attribute]

    def _values(self, attribute: str) -> pl.DataFrame:
        """Return each ``item`` with its ``value``, one row per element of a list."""
        if attribute not in self._frame.columns:
            hint = nearest(attribute, self._frame.columns) if self._frame.width else "they have none at all"
            raise RequestError(f"items have no attribute {attribute!r}; {hint}")
        frame = self._frame.select(pl.col(attribute).alias("value")).with_row_index("item")
        while isinstance(frame["value"].dtype, pl.List | pl.Array):
            frame = frame.explode("value")
        if frame["value"].dtype.is_nested():
            raise RequestError(f"items cannot be told by {attribute!r}, which is {frame['value'].dtype}")
        if frame["value"].dtype in (pl.Categorical, pl.Enum):
            frame = frame.with_columns(pl.col("value").cast(pl.String))
        if frame["value"].dtype == pl.String:
            frame = frame.with_columns(pl.col("value").str.normalize("NFC"))
        return frame

    def _sorted(self, attribute: str) -> tuple[FloatArray, IntArray]:
        frame = self._values(attribute)
        if frame["value"].dtype.is_numeric() or frame["value"].dtype == pl.String:
            texts = pl.col("value").str.strip_chars() if frame["value"].dtype == pl.String else pl.col("value")
            frame = frame.with_columns(texts.cast(pl.Float64, strict=False))
            frame = frame.filter(pl.col("value").is_finite()).sort("value")
        else:
            frame = frame.clear().cast({"value": pl.Float64}, strict=False)
        return frame["value"].to_numpy(), frame["item"].to_numpy()

    def _look_through(self, attribute: str) -> dict[object, IntArray]:
        frame = self._values(attribute)
        if self._frame[attribute].dtype == pl.String:
            frame = frame.with_columns(_parts(pl.col("value"), attribute in self.barred)).explode("value")
        frame = frame.drop_nulls().unique(maintain_order=True)
        groups = frame.group_by("value", maintain_order=True).agg("item")
        return {
            self._key(attribute, value): items.to_numpy()
            for value, items in zip(groups["value"], groups["item"], strict=True)
        }

    def _key(self, attribute: str, value: Any) -> object:
        """Return what a value is looked up by; texts stand for numbers, as they must on a command line."""
        dtype = innermost(self._frame[attribute].dtype)
        if dtype == pl.Boolean:
            return str(value).lower()
        if not dtype.is_numeric():
            return unicodedata.normalize("NFC", str(value))
        try:
            return float(value)
        except (TypeError, ValueError):
            raise RequestError(f"{attribute} holds numbers, got {value!r}") from None


def _is_finite(end: object) -> bool:
    try:
        return not isinstance(end, bool) and math.isfinite(end)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def _shown(asked: Between) -> str:
    low, high = ("" if end is None else f"{end:g}" for end in (asked.low, asked.high))
    return f"a range ({low}..{high})"


def _hint(value: str, found: Collection[object]) -> str:
    if len(found) > _MOST_COMPARED:
        return f"it has {len(found):,} others; check the spelling"
    return nearest(value, sorted(str(name) for name in found))


def _barred(frame: pl.DataFrame) -> frozenset[str]:
    """Return the attributes whose texts are parted at bars only."""
    texts = frame.select(pl.col(pl.String).str.contains(_BAR, literal=True).any())
    return frozenset(name for name in texts.columns if texts[name].any())


def _parts(text: pl.Expr, is_barred: bool) -> pl.Expr:
    """Return the values of a text: itself and its parts."""
    signed = text.str.contains(_SIGNS)
    parts = pl.when(signed).then(text.str.extract_all(r"[^|;,]+")).otherwise(text.str.extract_all(r"\S+"))
    if is_barred:
        parts = text.str.split(_BAR)
    trimmed = parts.list.eval(pl.element().str.strip_chars())
    return pl.concat_list(text, trimmed)


def _check_where(where: object) -> None:
    if not isinstance(where, Mapping):
        got = reprlib.repr(where)
        raise RequestError(f"where: got {got}, expected attributes and values, such as {{'category': 'Sci-Fi'}}")


def _listed(filters: object) -> list[ItemFilter | None]:
    expected = "flr.ItemFilter(where={...}, exclude=[...]), one for all histories or a list of one each"
    check_list(filters, "filters", expected)
    listed: list[ItemFilter | None] = list(filters)  # type: ignore[call-overload]
    for one in listed:
        if one is not None and not isinstance(one, ItemFilter):
            raise RequestError(f"filters: got {reprlib.repr(one)} in the list, expected {expected}")
    return listed


def each_filter(
    filters: ItemFilter | Sequence[ItemFilter | None] | None, n_histories: int
) -> tuple[list[ItemFilter | None], IntArray]:
    """Return the distinct filters and the number of each history's.

    Raises:
        RequestError: There are several, but not one for each history, or one is no filter.
    """
    if filters is None or isinstance(filters, ItemFilter):
        return [filters], np.zeros(n_histories, dtype=np.int64)
    filters = _listed(filters)
    if len(filters) != n_histories:
        raise RequestError(f"got {len(filters)} filters for {n_histories} histories; give one for all, or one each")
    place: dict[int, int] = {}
    of_row = np.array([place.setdefault(id(one), len(place)) for one in filters], dtype=np.int64)
    distinct = {id(one): one for one in filters}
    return [distinct[key] for key in place], of_row
