"""Evaluation reports on disk: metrics as JSON, one row per target as Parquet.

``metrics.json`` holds ``{"valid": {...}, "test": {...}}``; ``targets-test.parquet`` what significance tests need.
"""

from __future__ import annotations

import io
import math
from contextlib import suppress
from pathlib import Path
from typing import Final

import polars as pl

from flr.errors import ArtifactError, StorageError, nearest
from flr.persistence import read_json, write_json
from flr.records import Report

METRICS_FILE: Final = "metrics.json"
TARGETS_FILE: Final = "targets-{split}.parquet"


def save_report(report: Report, directory: Path | str) -> None:
    """Write a report: its metrics beside those of other splits in ``metrics.json``, its targets as Parquet.

    Args:
        report: What is saved; an earlier report of the same split is replaced.
        directory: Folder of one evaluated model; made if missing.

    Raises:
        StorageError: The disk refused a write; what was there before is untouched.
        ArtifactError: ``metrics.json`` is there but not readable.
    """
    directory = Path(directory)
    path = directory / METRICS_FILE
    metrics = read_json(path, "metrics") if path.exists() else {}
    about = {"name": report.name, "seconds": repr(report.seconds), "seen_items": report.seen_items or ""}
    _write_parquet(directory / TARGETS_FILE.format(split=report.split), report.per_target, about)
    write_json(path, {**metrics, report.split: report.metrics})


def load_report(directory: Path, split: str) -> Report:
    """Return the report of one split that `save_report` wrote.

    Raises:
        ArtifactError: There is no such report, or it cannot be read.
    """
    metrics = read_json(directory / METRICS_FILE, "metrics")
    if split not in metrics:
        raise ArtifactError(f"{str(directory)!r} holds no report of {split!r}: {nearest(split, metrics)}")
    path = directory / TARGETS_FILE.format(split=split)
    try:
        per_target, about = pl.read_parquet(path), pl.read_parquet_metadata(path)
        values = {name: math.nan if value is None else float(value) for name, value in metrics[split].items()}
        seconds, seen_items = float(about["seconds"]), about.get("seen_items") or None
        return Report(about["name"], split, values, per_target, seconds, seen_items)
    except (OSError, KeyError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"cannot read the targets {str(path)!r}: {error}; run `flr evaluate` again") from error


def _write_parquet(path: Path, frame: pl.DataFrame, about: dict[str, str]) -> None:
    content = io.BytesIO()
    frame.write_parquet(content, metadata=about)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content.getbuffer())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(path)!r}: {error}; free some space or choose another folder") from error
