"""What can go wrong, and what to do about it.

```
FlrError                 everything a user can mend; the command line prints it and exits with 2
├── ConfigError          a setting that is unknown, out of range or contradicts another
├── DataError            interactions or items that cannot be used as they are
│   ├── ReadError        a file that is missing or cannot be parsed
│   ├── ColumnError      a column that is missing or of the wrong type
│   └── LeakageError     a split that would let training see the future of a test target
├── FetchError           a public file that could not be fetched, or whose checksum is wrong
├── RequestError         a recommendation that was asked for in a way that cannot be answered
│   └── UnknownItemError an item id or title that is not in the catalogue
├── ServiceError         a server that cannot answer now, though the request is right
│   ├── OverloadedError  too much is waiting already; the error says when to come back
│   ├── DeadlineError    the answer would have come too late
│   └── ClosedError      the server is about to stop
└── ArtifactError        a saved folder that is missing, half-written, corrupt or of another version
    └── StorageError     the disk refused a write; what was there before is untouched
```

Every message says what was got, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlrError(Exception):
    """Base of all errors a user can mend."""

    exit_code = 2


class ConfigError(FlrError):
    """A setting that is unknown, out of range or contradicts another."""


class DataError(FlrError):
    """Interactions or items that cannot be used as they are."""


class ReadError(DataError):
    """A data file that is missing or cannot be parsed."""


class ColumnError(DataError):
    """A column that is missing or of the wrong type."""


class LeakageError(DataError):
    """A split that would let training see the future of a test target."""


class FetchError(FlrError):
    """A public file that could not be fetched, or whose checksum is wrong."""


class RequestError(FlrError):
    """A recommendation asked for in a way that cannot be answered."""


class UnknownItemError(RequestError):
    """An item id or title that is not in the catalogue.

    Attributes:
        problem: The message without what to say instead, which each door has its own words for.
        other: What items can be given by instead, ``"id"`` or ``"title"``; None where there is no choice.
    """

    def __init__(self, problem: str, other: str | None = None) -> None:
        super().__init__(problem if other is None else f"{problem} (to give {other}s instead, say by={other!r})")
        self.problem, self.other = problem, other


class ServiceError(FlrError):
    """A server that cannot answer now, though the request is right."""


class OverloadedError(ServiceError):
    """Too much is waiting already.

    Attributes:
        retry_after_seconds: When it is worth trying again.
    """

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(ServiceError):
    """The answer would have come too late."""


class ClosedError(ServiceError):
    """The server is about to stop."""


class ArtifactError(FlrError):
    """A saved folder that is missing, half-written, corrupt or of another version."""


class StorageError(ArtifactError):
    """The disk refused a write; what was there before is untouched."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return a sentence naming the candidate closest to `name`, or all of them when none is close.

    >>> nearest("trian", ["train", "valid"])
    "did you mean 'train'?"
    >>> nearest("zzz", ["train", "valid"])
    'expected one of: train, valid'
    """
    known = [str(candidate) for candidate in candidates]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"expected one of: {shown}"
