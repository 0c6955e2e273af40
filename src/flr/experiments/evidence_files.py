"""The evidence of one run or baseline on disk, in a folder of its own.

```
RUN/evidence/ or BASELINE/evidence/
├── INSTRUMENT.json         what it was made from (settings, weights, data) and its seconds; written last
├── factors.npz             what was thought about held-out targets (not the thoughts themselves)
├── untrained.npz           the same before the first step of training, where there are several factors
├── factors.parquet         disentanglement, pair by pair
├── alignment.parquet       linear CKA, mean over pairs: of all users, then of random halves
├── figures.parquet         headline figures of all users, then of resamples
├── profiles.parquet        what each factor stands for
├── information.parquet     mutual information, pair by pair
├── halves.parquet          the same, mean over pairs: of all users, then of random halves
├── interventions.parquet   NDCG@10 of every target under every intervention
└── robustness.parquet      NDCG@10 of every target under every damage
```

An instrument is done when its JSON file names what it would be made from now.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import BaseModel

from flr.diagnostics.factor_records import FactorRecords
from flr.errors import ArtifactError
from flr.evaluation.protocol import SeenItems
from flr.persistence import read_json, write_bytes
from flr.records import Histories

#: Of each instrument, raised when it measures something else than before.
VERSIONS: Final = {"factors": 4, "profiles": 1, "information": 4, "interventions": 5, "robustness": 4}
#: Arrays of `FactorRecords` that no table needs once the headline figures are there.
_NOT_KEPT: Final = ("vectors", "states")


@dataclass(frozen=True)
class Subject:
    """Whose evidence is gathered.

    Attributes:
        folder: Of the run or of the baseline.
        data: Prepared folder.
        is_baseline: Which of the two.
        seed: Its seed.
        window: Items that damage falls on: as many as the reference reads, so that all models are told the same.
        seen_items: Whether items of the history are candidates.
    """

    folder: Path
    data: Path
    is_baseline: bool
    seed: int
    window: int
    seen_items: SeenItems

    @property
    def evidence(self) -> Path:
        """Folder of its evidence."""
        return self.folder / "evidence"


def is_made(path: Path, key: dict[str, Any]) -> bool:
    """Return whether the JSON file of an instrument is there and says of itself what the key does."""
    if not path.exists():
        return False
    try:
        saved = read_json(path, "evidence")
    except ArtifactError:
        return False
    return all(saved.get(name) == value for name, value in key.items())


def save_table(subject: Subject, name: str, frame: pl.DataFrame) -> None:
    """Write a table of the evidence.

    Raises:
        StorageError: The disk refused the write.
    """
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(subject.evidence / f"{name}.parquet", content.getvalue())


def load_table(subject: Subject, instrument: str, settings: BaseModel | None, name: str = "") -> pl.DataFrame | None:
    """Return a table that an instrument made; None where it is off, has not been used or was used otherwise.

    Args:
        subject: Whose.
        instrument: Which one.
        settings: Its settings now; None where it is off.
        name: Of the table, where it is not the instrument's.

    Raises:
        ArtifactError: It is there and cannot be read.
    """
    path = subject.evidence / f"{name or instrument}.parquet"
    if settings is None or not _is_made_by(subject, instrument, settings):
        return None
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"cannot read the evidence {str(path)!r}: {error}; remove it and run again") from error


def _is_made_by(subject: Subject, instrument: str, settings: BaseModel) -> bool:
    key = {"version": VERSIONS[instrument], "settings": settings.model_dump(mode="json")}
    return is_made(subject.evidence / f"{instrument}.json", key)


def spent_seconds(subject: Subject) -> float:
    """Return how long gathering the evidence that is there took."""
    return sum(float(read_json(path, "evidence").get("seconds", 0)) for path in subject.evidence.glob("*.json"))


def save_records(records: FactorRecords, path: Path) -> None:
    """Write what comparing factors needs of records: not the thoughts and states, which are most of it.

    Raises:
        StorageError: The disk refused the write.
    """
    arrays = {part.name: getattr(records, part.name) for part in fields(records) if part.name not in _NOT_KEPT}
    histories = arrays.pop("histories")
    content = io.BytesIO()
    np.savez_compressed(content, read_items=histories.item_index, read_offsets=histories.offsets, **arrays)
    write_bytes(path, content.getvalue())


def load_records(subject: Subject, settings: BaseModel | None, name: str = "factors") -> FactorRecords | None:
    """Return what `save_records` wrote, with empty thoughts and states; None as in `load_table`.

    Args:
        subject: Whose.
        settings: Of the instrument ``factors`` now; None where it is off.
        name: Of the file.

    Raises:
        ArtifactError: It is there and cannot be read.
    """
    path = subject.evidence / f"{name}.npz"
    if settings is None or not _is_made_by(subject, "factors", settings):
        return None
    try:
        with np.load(path, allow_pickle=False) as saved:
            arrays = dict(saved)
        histories = Histories(arrays.pop("read_items"), arrays.pop("read_offsets"))
        nothing = np.empty((len(arrays["rows"]), 0), dtype=np.float32)
        none_voted = np.empty((len(nothing), arrays["gates"].shape[-1], 0), dtype=np.int32)
        arrays.setdefault("voted", none_voted)  # older evidence did not ask
        return FactorRecords(histories=histories, vectors=nothing, states=nothing, **arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"cannot read the evidence {str(path)!r}: {error}; remove it and run again") from error
