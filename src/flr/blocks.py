"""Tokens and rows in whole blocks: an answer is the same to the last bit in whatever company it is computed.

A matrix product of few rows takes another path through the processor's library than one of many, and a sum over
padded columns adds in another order when the padding shifts what is real; both change the last bits. Measured with
PyTorch's CPU build (MKL): a row of a product is the same to the bit in any company of at least 16 rows, unless it is a
product with a single column, where rows past the 16th differ; and attention is the same when columns shift by multiples
of 16 or more padding follows, up to 384 columns in all on processors with AVX-512 and 192 without. So streams, thoughts
and trie nodes are padded to whole blocks, fewer rows than a block are multiplied more than once, and what grows past
`shared_columns` is read alone, in chunks that begin at the same columns however long it becomes. A server checks on its
own processor that this holds (`flr.serving.engine`).

Functions of single numbers are not all the same to the bit either: `logaddexp`, `sigmoid`, `silu` and powers are
rounded otherwise in the last numbers of a tensor, where these do not fill a register, than within. `exp`, `log`,
`logsumexp`, `softmax` and norms are not. What rows may have any length for avoids the former.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

_Counts = TypeVar("_Counts", int, "Tensor")
#: Tokens, or rows of a product, of one block.
BLOCK: Final = 16
#: Tokens that a row reads at once come in such parts: attention of fewer takes another path for wide heads.
_QUERIES: Final = 8
#: What `shared_columns` may be.
_MOST_SHARED: Final = (384, 192)
#: More columns than any history has.
UNLIMITED: Final = 2**31
_ANY_COMPANY: Final = ContextVar("any company", default=False)
#: Tokens of a longer stream that are read at once; its last chunk is as long as what is left.
CHUNK: Final = 128
#: Entries of a long row that are added at a time.
_PART: Final = 1024


def whole_blocks(n: _Counts) -> _Counts:
    """Return `n`, a number or an integer tensor of them, rounded up to whole blocks.

    >>> whole_blocks(1), whole_blocks(16), whole_blocks(17)
    (16, 16, 32)
    """
    return -(-n // BLOCK) * BLOCK


@contextmanager
def in_any_company() -> Iterator[None]:
    """Let last bits depend on what is computed together, where nobody looks at them, as in validation while training.

    No row is read by itself for their sake, which takes several times as long where much of the trie has to be read.
    """
    before = _ANY_COMPANY.set(True)
    try:
        yield
    finally:
        _ANY_COMPANY.reset(before)


def shared_columns() -> int:
    """Return how many columns rows of unlike length may share on this processor; 0 if none."""
    return UNLIMITED if _ANY_COMPANY.get() else _most_shared()


@functools.cache
def _most_shared() -> int:
    """Return it where last bits count.

    A product sums over more of them in parts, and how many a part has depends on the processor's registers. So it is
    tried out once, in some 25 ms.
    """
    return next((most for most in _MOST_SHARED if _sums_at_once(most)), 0)


def _sums_at_once(n_columns: int) -> bool:
    """Return whether attention to part of so many columns is the same to the bit whatever stands at the others."""
    import torch
    from torch.nn import functional

    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, n, BLOCK, generator=random) for n in (BLOCK, n_columns, n_columns))
    attend = functional.scaled_dot_product_attention
    for total in range(2 * BLOCK, n_columns + 1, BLOCK):
        for real in {BLOCK, total // 2 // BLOCK * BLOCK, total - BLOCK}:
            alone = attend(query, key[:, :, :real], value[:, :, :real])
            for first in (0, total - real):
                columns = torch.arange(total)
                mask = (columns >= first) & (columns < first + real)
                placed = ((columns - first) % total, mask.expand(BLOCK, total))
                if not torch.equal(alone, attend(query, key[:, :, placed[0]], value[:, :, placed[0]], placed[1])):
                    return False
    return True


def whole_slots(n: int, n_rows: int) -> int:
    """Return how many tokens each of some rows reads so that all products have a block of rows, at least `n`.

    Attention is the same to the bit for any number of queries that is a multiple of eight.

    >>> whole_slots(1, 1), whole_slots(5, 1), whole_slots(1, 3), whole_slots(5, 8)
    (16, 16, 8, 8)
    """
    return -(-max(n, -(-BLOCK // n_rows)) // _QUERIES) * _QUERIES


def by_block(product: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a product that treats rows alike to at least one block of them.

    Args:
        product: [n, ..., D] -> [n, ..., E], each row by itself; E above 1.
        rows: [n, ..., D].
    """
    n = len(rows)
    if not n or rows.numel() // rows.shape[-1] >= BLOCK:
        return product(rows)
    again = rows.repeat(-(-BLOCK // n), *(1,) * (rows.dim() - 1))
    return product(again)[:n]


def summed_in_parts(rows: Tensor) -> Tensor:
    """Return the sums over the last dimension, [..., N] -> [..., 1]: threads would share one long row, not several."""
    n = rows.shape[-1]
    padded = rows.new_zeros(*rows.shape[:-1], -(-n // _PART) * _PART)
    padded[..., :n] = rows
    parts = padded.view(*rows.shape[:-1], -1, _PART).sum(-1)
    return parts.sum(-1, keepdim=True)
