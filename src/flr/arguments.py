"""What a caller gives, checked before anything is made of it; without torch and polars, as the client needs it too."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

from flr.errors import RequestError
from flr.records import Histories


def check_list(given: object, what: str, expected: str = "a list of ids") -> None:
    """Refuse what is no list, such as a text, which would be taken apart into its characters.

    Args:
        given: What a caller gave.
        what: Its name.
        expected: What it should have been.

    Raises:
        RequestError: It is a text or a mapping, or nothing that can be gone through.
    """
    if isinstance(given, str | bytes):
        raise RequestError(f"{what}: got the text {given!r}, expected {expected}")
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise RequestError(f"{what}: got {reprlib.repr(given)}, expected {expected}")


def check_histories(given: object) -> None:
    """Refuse what is no list of histories, such as one history alone.

    Raises:
        RequestError: The histories, or one of them, are no list.
    """
    check_list(given, "histories", "a list of histories, each a list of items")
    if isinstance(given, Sequence):
        for number, history in enumerate(given):
            check_list(history, f"history number {number}", "a list of items; one history alone is a list in a list")


def check_resolved(histories: object, n_items: int) -> None:
    """Refuse histories of ids, or of items that are not there, where histories of indices are scored.

    Args:
        histories: What a caller gave.
        n_items: Size of the catalogue N.

    Raises:
        RequestError: They are no `Histories`, or an index is not in 0..N-1.
    """
    if not isinstance(histories, Histories):
        got = reprlib.repr(histories)
        raise RequestError(f"histories: got {got}, expected item indices; Recommender.resolve makes them of ids")
    items = histories.item_index
    if len(items) and not 0 <= items.min() <= items.max() < n_items:
        wrong = int(items.min() if items.min() < 0 else items.max())
        raise RequestError(f"histories: got item index {wrong}, expected 0 to {n_items - 1}")


def check_item(item: object, by: str, where: str = "") -> None:
    """Refuse an id or a title that is no text.

    Args:
        item: What a caller gave.
        by: What it is, ``"id"`` or ``"title"``.
        where: Where it was found, for the message.

    Raises:
        RequestError: It is no text.
    """
    if not isinstance(item, str):
        got = f"{reprlib.repr(item)} ({type(item).__name__})"
        raise RequestError(f"{where}got {got} as {by}, expected a text such as {str(item)[:40]!r}; give str({by})")


def check_k(k: object) -> None:
    """Refuse a number of items that is none.

    Raises:
        RequestError: It is not a whole number, or is below 1.
    """
    if isinstance(k, bool) or not isinstance(k, Integral) or int(k) < 1:
        raise RequestError(f"k = {k!r}, expected a whole number of at least 1")


def check_choice(given: object, name: str, choices: Sequence[str]) -> None:
    """Refuse what is not one of the choices.

    Raises:
        RequestError: It is none of them.
    """
    if not isinstance(given, str) or given not in choices:
        raise RequestError(f"{name} = {given!r}, expected {' or '.join(map(repr, choices))}")
