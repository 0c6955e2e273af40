from __future__ import annotations

import torch

from flr.scoring.ranking import top_items


def test_best_first_and_ties_keep_the_order_of_items() -> None:
    ranking = top_items(torch.tensor([[0.1, 0.5, 0.5, 0.3, 0.5], [9, 8, 7, 6, 5]]), 3)
    assert ranking.item_index.tolist() == [[1, 2, 4], [0, 1, 2]]
    assert ranking.log_probs[1].tolist() == [9, 8, 7]


def test_masked_items_never_show_even_when_few_are_left() -> None:
    scores = torch.tensor([[-torch.inf, 2, -torch.inf]])
    assert top_items(scores, 5).item_index.tolist() == [[1, -1, -1]]


def test_random_scores_equal_a_stable_sort() -> None:
    scores = torch.randint(0, 5, (20, 50), generator=torch.Generator().manual_seed(0)).float()
    expected = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :7]
    assert top_items(scores, 7).item_index.tolist() == expected.tolist()
