"""The metrics are those of trec_eval, the reference of information retrieval, to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval

from flr.evaluation.metrics import hit_rate, ndcg, rank_statistics, reciprocal_rank


@pytest.mark.parametrize("k", [5, 10, 20])
def test_metrics_equal_those_of_trec_eval(k: int) -> None:
    rng = np.random.default_rng(k)
    scores = rng.permuted(np.tile(np.arange(60.0), (80, 1)), axis=1)
    targets = rng.integers(0, 60, 80)
    n_better, n_equal = rank_statistics(scores, targets)
    relevant = {str(row): {str(item): 1} for row, item in enumerate(targets)}
    listed = {
        str(row): {str(item): float(of_row[item]) for item in np.argsort(-of_row)[:k]}
        for row, of_row in enumerate(scores)
    }
    judged = pytrec_eval.RelevanceEvaluator(relevant, {f"ndcg_cut.{k}", f"recall.{k}", "recip_rank"}).evaluate(listed)
    for name, metric in {f"ndcg_cut_{k}": ndcg, f"recall_{k}": hit_rate, "recip_rank": reciprocal_rank}.items():
        expected = [judged[str(row)][name] for row in range(80)]
        np.testing.assert_allclose(metric(n_better, n_equal, k), expected, rtol=0, atol=1e-9)
    assert 0 < np.mean(hit_rate(n_better, n_equal, k)) < 1
