"""Titles as token ids: a compact byte-level BPE trained on the catalogue, or a pretrained model's tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from flr.errors import ArtifactError, ConfigError, DataError
from flr.records import IntArray, TokenizedTitles, ragged_indices

#: Byte-level BPE writes a space as another character, so no title can ever spell these.
PAD, BOS, EOI = "< pad >", "< bos >", "< eoi >"


class TitleTokenizer:
    """Turns titles into token ids, one by one, so that tokens never merge across an item boundary.

    Source: METHOD 2.

    Attributes:
        preamble_ids: Tokens before the first title of a history, at least one.
        suffix_ids: Tokens between the last title and the thought; none where the template is append-only.
        eoi_id: The end-of-item token; occurs in no title.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, preamble_ids: Sequence[int], suffix_ids: Sequence[int] = (), eoi_id: int
    ) -> None:
        # A title that happens to spell a special token is text like any other.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.preamble_ids, self.suffix_ids = tuple(preamble_ids), tuple(suffix_ids)
        self.eoi_id = eoi_id

    @classmethod
    def train(
        cls, titles: Iterable[str], vocabulary_size: int, *, preamble: str = "", suffix: str = ""
    ) -> TitleTokenizer:
        """Return a byte-level BPE trained on the titles; a year in parentheses, like any word, may become one token.

        Args:
            titles: The catalogue's distinct titles.
            vocabulary_size: Upper bound; small catalogues yield fewer tokens.
            preamble: Text before the first title, after a token that begins every prompt.
            suffix: Text between the last title and the thought.
        """
        tokenizer = Tokenizer(models.BPE())
        words = pre_tokenizers.Split(Regex(r" ?[^ ]+| "), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[PAD, BOS, EOI],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(titles, trainer=trainer)
        bos_id, eoi_id = (tokenizer.get_vocab()[token] for token in (BOS, EOI))
        before, after = (tokenizer.encode(text, add_special_tokens=False).ids for text in (preamble, suffix))
        return cls(tokenizer, preamble_ids=[bos_id, *before], suffix_ids=after, eoi_id=eoi_id)

    @classmethod
    def pretrained(cls, tokenizer: Tokenizer, *, preamble: str, suffix: str = "", end_id: int | None) -> TitleTokenizer:
        """Return a pretrained model's tokenizer, with a line break closing each title.

        Prompts begin with whatever the tokenizer puts before a text by itself: many decoders know no other beginning.

        Args:
            tokenizer: The model's own tokenizer.
            preamble: Text before the first title.
            suffix: Text between the last title and the thought.
            end_id: The model's end-of-text token, used where a line break is not one token.

        Raises:
            ConfigError: A line break is not one token and the model has no end-of-text token.
        """
        word, line = (tokenizer.encode(text, add_special_tokens=False).ids for text in ("a", "a\n"))
        line_break = line[len(word) :]  # after a word: some put a space before every text
        eoi_id = line_break[0] if len(line_break) == 1 else end_id
        if eoi_id is None:
            raise ConfigError(f"a line break is {len(line_break)} tokens here and there is no end-of-text token")
        preamble_ids = _begun(tokenizer, preamble) or [eoi_id]
        suffix_ids = tokenizer.encode(suffix, add_special_tokens=False).ids
        return cls(tokenizer, preamble_ids=preamble_ids, suffix_ids=suffix_ids, eoi_id=eoi_id)

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode_titles(self, titles: Sequence[str], max_tokens: int) -> TokenizedTitles:
        """Return the tokens of every title, each closed by the end-of-item token.

        Args:
            titles: Distinct titles.
            max_tokens: Longer titles are cut, unless two would then be the same.

        Raises:
            DataError: A title holds the end-of-item token (a line break, for pretrained tokenizers).
        """
        encodings = self._tokenizer.encode_batch_fast(list(titles), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        if max(map(len, rows), default=0) >= max_tokens:
            rows = _cut(rows, max_tokens - 1)
        lengths = np.fromiter((len(row) + 1 for row in rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.full(offsets[-1], self.eoi_id, dtype=np.int64)
        inside = np.ones(offsets[-1], dtype=bool)
        inside[offsets[1:] - 1] = False
        ids[inside] = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(inside.sum()))
        if (ids[inside] == self.eoi_id).any():
            title = titles[int(np.searchsorted(offsets, np.flatnonzero(inside & (ids == self.eoi_id))[0], "right")) - 1]
            raise DataError(f"the title {title!r} holds the end-of-item token; clean titles before encoding them")
        return TokenizedTitles(ids, offsets, self.eoi_id)

    def encode_titles_again(
        self, titles: Sequence[str], max_tokens: int, *, known: Sequence[str], tokens: TokenizedTitles
    ) -> TokenizedTitles:
        """Return what `encode_titles` does for titles most of which have been encoded before; only others are now.

        Args:
            titles: Distinct titles.
            max_tokens: As it was before.
            known: Titles encoded before.
            tokens: Their tokens.
        """
        # Whether a long title is cut depends on the other long ones, so these are looked at together.
        reusable = tokens.lengths < max_tokens
        place_of = {title: place for place, title in enumerate(known) if reusable[place]}
        place = np.fromiter((place_of.get(title, -1) for title in titles), dtype=np.int64, count=len(titles))
        is_new = place < 0
        new = self.encode_titles([titles[number] for number in np.flatnonzero(is_new).tolist()], max_tokens)
        place[is_new] = len(tokens.lengths) + np.arange(len(new.lengths))
        starts = np.concatenate([tokens.offsets[:-1], len(tokens.ids) + new.offsets[:-1]])[place]
        lengths = np.concatenate([tokens.lengths, new.lengths])[place]
        indices, offsets = ragged_indices(starts, lengths)
        return TokenizedTitles(np.concatenate([tokens.ids, new.ids])[indices], offsets, self.eoi_id)

    def decode(self, ids: IntArray | Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True))

    def to_json(self) -> dict[str, object]:
        """Return all there is to save; see `from_json`."""
        return {
            "tokenizer": self._tokenizer.to_str(),
            "preamble_ids": list(self.preamble_ids),
            "suffix_ids": list(self.suffix_ids),
            "eoi_id": self.eoi_id,
        }

    @classmethod
    def from_json(cls, saved: dict[str, object]) -> TitleTokenizer:
        """Return what `to_json` gave.

        Raises:
            ArtifactError: A key is missing or the tokenizer cannot be read.
        """
        try:
            tokenizer = Tokenizer.from_str(str(saved["tokenizer"]))
            preamble, suffix = saved["preamble_ids"], saved.get("suffix_ids", ())  # folders before it have none
            return cls(tokenizer, preamble_ids=preamble, suffix_ids=suffix, eoi_id=int(saved["eoi_id"]))  # type: ignore[arg-type,call-overload]
        except Exception as error:
            raise ArtifactError(
                f"the saved tokenizer cannot be read ({error!r}); save or train the model again"
            ) from error


def _begun(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text after the special ones that the tokenizer puts before it, without those after it."""
    whole, plain = (tokenizer.encode(text or "a", add_special_tokens=special).ids for special in (True, False))
    n_before = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
    return [*whole[:n_before], *(plain if text else [])]


def _cut(rows: list[list[int]], length: int) -> list[list[int]]:
    """Cut long titles where that keeps them distinct."""
    cut = [tuple(row[:length]) for row in rows]
    counts = Counter(cut)
    return [list(short) if counts[short] == 1 else row for short, row in zip(cut, rows, strict=True)]
