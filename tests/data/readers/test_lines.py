"""Lines of text files: gzip, encodings, ends of lines, damage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.data.readers import lines
from flr.data.readers.lines import Lines, Rows, cell, first_object, parse_object
from flr.errors import ReadError


def all_of(path: Path, **settings: Any) -> list[tuple[int, str]]:
    return list(Lines(path, on_bad_row="error", **settings))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_ends_of_lines_may_be_mixed_and_blank_lines_keep_the_numbers(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(pack(b"\xef\xbb\xbfone\r\ntwo\n\r\n  \nfive\xc3\xa9"))
    assert all_of(path) == [(1, "one"), (2, "two"), (5, "fiveé")]


def test_a_line_in_another_encoding_stops_or_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one\ncaf\xe9\nthree\n")
    with pytest.raises(ReadError, match=r"line 2 of .*x' is not utf-8 .* at byte 4 of the line\).*iconv"):
        all_of(path)
    forgiving = Lines(path, on_bad_row="drop")
    assert list(forgiving) == [(1, "one"), (3, "three")]
    assert forgiving.dropped == {"unreadable_lines": 1}
    assert all_of(path, encoding="latin-1")[1] == (2, "café")


@pytest.mark.parametrize("on_bad_row", ["error", "drop"])
def test_a_damaged_gzip_stops_either_way(tmp_path: Path, on_bad_row: Any) -> None:
    whole = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(20_000)))
    for name, data in {"cut": whole[: len(whole) // 2], "bent": whole[:9_000] + b"xxxx" + whole[9_004:]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ReadError, match=rf"{name}' is damaged or cut off after line \d+ .*fetch it again"):
            list(Lines(tmp_path / name, on_bad_row=on_bad_row))
    (tmp_path / "head").write_bytes(whole[:5])
    with pytest.raises(ReadError, match="head' is damaged or cut off in its first line"):
        first_object(tmp_path / "head")


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)
    )
)
def test_an_object_is_the_same_as_json_and_as_a_literal(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value)) == value
    assert parse_object(repr(value)) == value


@pytest.mark.parametrize("text", ["", "3", "[1]", "{1}", "open('x')", "{'a': open('x')}", "[" * 100_000, "{" * 100_000])
def test_what_is_no_object_is_none(text: str) -> None:
    assert parse_object(text) is None


def test_odd_escapes_are_no_news_for_the_terminal(recwarn: pytest.WarningsRecorder) -> None:
    assert parse_object("{'title': '5\\m', 'n': 1or 2}") is None
    assert parse_object("{'title': '5\\m'}") == {"title": "5\\m"}
    assert not recwarn


def test_cells_hold_text() -> None:
    values = ["", "a", None, [], ["a", ["b", ""]], 3, 2.5, True, {"é": 1}]
    assert [cell(value) for value in values] == [None, "a", None, None, "a; b", "3", "2.5", "True", '{"é": 1}']


def test_rows_come_out_in_order_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_ROWS", 3)
    for n in (0, 2, 3, 7):
        rows = Rows(("a", "b"))
        for i in range(n):
            rows.add((str(i), None))
        assert rows.frame().rows() == [(str(i), None) for i in range(n)]
