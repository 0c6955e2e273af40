from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from flr.errors import ArtifactError, ConfigError, DataError
from flr.text.tokenizer import TitleTokenizer

TITLES = ["Toy Story (1995)", "Toy Story 2 (1999)", "Amélie 🎬", "< eoi > the film", "a < bos > b", "<eoi>"]


def rows(tokenizer: TitleTokenizer, titles: list[str], max_tokens: int = 100) -> list[list[int]]:
    found = tokenizer.encode_titles(titles, max_tokens)
    return [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


def test_titles_survive_a_round_trip_even_those_that_spell_special_tokens() -> None:
    tokenizer = TitleTokenizer.train(TITLES, 400)
    for title, row in zip(TITLES, rows(tokenizer, TITLES), strict=True):
        assert row[-1] == tokenizer.eoi_id
        assert tokenizer.eoi_id not in row[:-1]
        assert tokenizer.decode(row[:-1]) == title


def test_frequent_words_become_one_token_and_unseen_bytes_still_encode() -> None:
    tokenizer = TitleTokenizer.train(["Blue Sky (1995)", "Red Sky (1995)", "Sky (1995)"] * 3, 400)
    assert len(rows(tokenizer, ["Sky (1995)"])[0]) == 3
    assert tokenizer.decode(rows(tokenizer, ["日本"])[0][:-1]) == "日本"


def test_long_titles_are_cut_only_where_they_stay_distinct() -> None:
    tokenizer = TitleTokenizer.train(["x"], 260)
    found = rows(tokenizer, ["abcdefgh1", "abcdefgh2", "zzzzzzzzzz"], max_tokens=5)
    assert [len(row) for row in found] == [10, 10, 5]
    assert tokenizer.decode(found[2][:-1]) == "zzzz"


@pytest.mark.parametrize("max_tokens", [3, 5, 6, 9, 100])
def test_titles_encoded_again_are_those_encoded_at_once(max_tokens: int) -> None:
    tokenizer = TitleTokenizer.train(["x"], 260)
    before = ["abcdefgh1", "abcd", "zzzzzzzzzz", "ab", "gone", "abcde"]
    after = ["new", "abcdefgh2", "zzzzzzzzzz", "abcd", "abcdefgh1", "abcdx", "ab"]
    known = tokenizer.encode_titles(before, max_tokens)
    again = tokenizer.encode_titles_again(after, max_tokens, known=before, tokens=known)
    found = [again.ids[a:b].tolist() for a, b in zip(again.offsets, again.offsets[1:], strict=False)]
    assert found == rows(tokenizer, after, max_tokens)


def test_a_saved_tokenizer_is_the_same_and_a_broken_one_says_so() -> None:
    tokenizer = TitleTokenizer.train(TITLES, 400)
    again = TitleTokenizer.from_json(tokenizer.to_json())
    assert rows(again, TITLES) == rows(tokenizer, TITLES)
    assert (again.preamble_ids, again.eoi_id) == (tokenizer.preamble_ids, tokenizer.eoi_id)
    with pytest.raises(ArtifactError, match="saved tokenizer cannot be read"):
        TitleTokenizer.from_json({"tokenizer": "{", "preamble_ids": [1], "eoi_id": 2})


def test_texts_around_the_titles_are_kept() -> None:
    tokenizer = TitleTokenizer.train(TITLES, 400, preamble="Taken:", suffix="Next:\n")
    again = TitleTokenizer.from_json(tokenizer.to_json())
    assert tokenizer.decode(again.preamble_ids) == "Taken:"
    assert tokenizer.decode(again.suffix_ids) == "Next:\n"
    older = {key: value for key, value in tokenizer.to_json().items() if key != "suffix_ids"}
    assert TitleTokenizer.from_json(older).suffix_ids == ()
    assert TitleTokenizer.train(TITLES, 400).suffix_ids == ()


def byte_tokenizer(extra: list[str]) -> Tokenizer:
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *extra]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def test_a_pretrained_tokenizer_closes_titles_with_a_line_break() -> None:
    backend = byte_tokenizer([])
    tokenizer = TitleTokenizer.pretrained(backend, preamble="Items:", suffix="Next:", end_id=None)
    assert list(tokenizer.suffix_ids) == backend.encode("Next:").ids
    assert tokenizer.eoi_id == backend.encode("\n").ids[0]
    assert list(tokenizer.preamble_ids) == backend.encode("Items:").ids
    with pytest.raises(DataError, match=r"the title 'two\\nlines' holds the end-of-item token"):
        tokenizer.encode_titles(["one", "two\nlines"], 20)


def test_prompts_begin_as_the_tokenizer_begins_texts() -> None:
    # As Llama's and Mistral's do: a token before every text, a space before every word, bytes for what is unknown.
    pieces = ["<s>", "</s>", "\u2581", *(f"<0x{byte:02X}>" for byte in range(256)), *"abcdefghijklmnopqrstuvwxyz:"]
    backend = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    both = [("<s>", 0), ("</s>", 1)]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=both)
    tokenizer = TitleTokenizer.pretrained(backend, preamble="items:", suffix="next:", end_id=1)
    assert tokenizer.eoi_id == pieces.index("<0x0A>")
    assert [pieces[token] for token in tokenizer.preamble_ids] == ["<s>", "\u2581", *"items:"]
    assert [pieces[token] for token in tokenizer.suffix_ids] == ["\u2581", *"next:"]
    assert TitleTokenizer.pretrained(backend, preamble="", end_id=1).preamble_ids == (0,)
    titles = tokenizer.encode_titles(["ab"], 20)
    assert [pieces[token] for token in titles.ids] == ["\u2581", "a", "b", "<0x0A>"]


def test_without_a_line_break_token_the_end_of_text_token_closes_titles() -> None:
    no_bytes = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    no_bytes.pre_tokenizer = pre_tokenizers.Whitespace()
    assert TitleTokenizer.pretrained(no_bytes, preamble="", end_id=7).eoi_id == 7
    with pytest.raises(ConfigError, match="a line break is 0 tokens"):
        TitleTokenizer.pretrained(no_bytes, preamble="", end_id=None)
