from __future__ import annotations

import torch

from flr.backbone.streams import EncodedStreams
from toy import toy_model


def encode(ids: list[list[int]], segments: list[list[int]], positions: list[list[int]]) -> EncodedStreams:
    model, _, _ = toy_model()
    with torch.inference_mode():
        return model.backbone.eval().encode(*(torch.tensor(rows) for rows in (ids, positions, segments)))


def test_segments_of_a_row_do_not_see_each_other() -> None:
    packed = encode([[5, 6, 7, 8, 9, 0]], [[0, 0, 0, 1, 1, -1]], [[0, 1, 2, 0, 1, 0]])
    first, second = encode([[5, 6, 7]], [[0, 0, 0]], [[0, 1, 2]]), encode([[8, 9]], [[0, 0]], [[0, 1]])
    torch.testing.assert_close(packed.hidden[0, :3], first.hidden[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed.hidden[0, 3:5], second.hidden[0], rtol=1e-4, atol=1e-5)
    assert packed.real.tolist() == [[True] * 5 + [False]]
    assert torch.isfinite(packed.hidden).all()


def test_a_branch_leaves_the_streams_as_they_are() -> None:
    model, _, _ = toy_model()
    streams = encode([[5, 6, 7]], [[0, 0, 0]], [[0, 1, 2]])
    before = [key.clone() for key in streams.keys]
    with torch.inference_mode():
        branch = model.backbone.embed(torch.tensor([[8]]))
        mask = torch.ones(1, 1, 1, 4, dtype=torch.bool)
        once = model.backbone.branch(streams, branch, torch.tensor([[3]]), mask)
        twice = model.backbone.branch(streams, branch, torch.tensor([[3]]), mask)
    assert torch.equal(once, twice)
    assert all(torch.equal(a, b) for a, b in zip(before, streams.keys, strict=True))
    whole = encode([[5, 6, 7, 8]], [[0] * 4], [[0, 1, 2, 3]])
    torch.testing.assert_close(once[0, 0], whole.hidden[0, 3], rtol=1e-4, atol=1e-5)
