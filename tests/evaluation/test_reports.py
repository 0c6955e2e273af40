"""Reports survive the disk, and a bad disk does not cost what was there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest

from flr.errors import ArtifactError, StorageError
from flr.evaluation.reports import load_report, save_report
from flr.records import Report


def report(split: str = "test", value: float = 0.25) -> Report:
    targets = pl.DataFrame({"user_id": ["a", "b"], "ndcg@10": [0.5, 0.0], "top_items": [[1, 2], [3]]})
    return Report("flr", split, {"ndcg@10": value, "n_targets": 2}, targets, 1.5)


def test_a_report_survives_the_disk(tmp_path: Path) -> None:
    save_report(report(), tmp_path)
    loaded = load_report(tmp_path, "test")
    assert loaded.per_target.equals(report().per_target)
    assert (loaded.name, loaded.split, loaded.metrics, loaded.seconds) == ("flr", "test", report().metrics, 1.5)


def test_splits_share_one_file_and_are_replaced_one_by_one(tmp_path: Path) -> None:
    save_report(report("valid", 0.1), tmp_path)
    save_report(report("test", 0.2), tmp_path)
    save_report(report("valid", 0.3), tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert {split: values["ndcg@10"] for split, values in written.items()} == {"valid": 0.3, "test": 0.2}


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    save_report(report("valid"), tmp_path)
    with pytest.raises(ArtifactError, match="no report of 'test': expected one of: valid"):
        load_report(tmp_path, "test")


def test_what_is_not_a_number_stays_so(tmp_path: Path) -> None:
    save_report(report(value=math.nan), tmp_path)
    assert math.isnan(load_report(tmp_path, "test").metrics["ndcg@10"])


def test_corrupt_targets_are_named(tmp_path: Path) -> None:
    save_report(report(), tmp_path)
    (tmp_path / "targets-test.parquet").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"targets-test\.parquet"):
        load_report(tmp_path, "test")


def test_a_refused_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_report(report(), tmp_path)

    def refuse(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        save_report(report(value=0.9), tmp_path)
    assert load_report(tmp_path, "test").metrics["ndcg@10"] == 0.25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "targets-test.parquet"]
