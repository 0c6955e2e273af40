"""What a report page is filled with."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from flr.evaluation.metrics import clustered_standard_error
from flr.experiments.content import ResultRow
from flr.records import USER_INDEX, Report


def test_a_row_has_errors_for_means_over_targets_only() -> None:
    per_target = pl.DataFrame({USER_INDEX: [0, 0, 1, 2], "hr@10": [1.0, 0.0, 1.0, 0.0]})
    report = Report("flr", "test", {"hr@10": 0.5, "coverage@10": 0.2}, per_target, 1.0)
    row = ResultRow.of(report)
    assert (row.name, row.metrics) == ("flr", report.metrics)
    expected = clustered_standard_error(np.array([1.0, 0, 1, 0]), np.array([0, 0, 1, 2]))
    assert row.standard_errors == {"hr@10": pytest.approx(expected)}
