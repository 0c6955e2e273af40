"""Amazon's metadata: awkward lines, and that batches of plain objects give what each line by itself gives."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amazon_roads import outcome
from flr.data.readers import amazon, batches
from flr.data.readers.lines import parse_object
from flr.errors import ColumnError
from flr.prepare_config import PrepareConfig

ITEM = {"category": ["Toys", "Cars"], "title": "A toy", "also_buy": ["B2"], "brand": "Acme", "asin": "B1"}
TEXT = st.sampled_from(["", "B1", "1", 'a"b', "<b>", "\0", "\N{GRINNING FACE}", "\ud83d"]) | st.text(max_size=3)
LEAF = TEXT | st.sampled_from([None, True, 2**63, 2**64, -0.0, 1e16, float("inf")]) | st.integers() | st.floats()
NAME = st.sampled_from(["title", "asin", "x", "", "\0"])
ANY = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=2))
ODD = st.fixed_dictionaries({}, optional=dict.fromkeys(["title", "category", "brand", "asin", "details"], ANY))
ITEMS = st.builds(
    lambda odd, is_ascii: json.dumps(ITEM | odd, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"),
    st.just({}) | ODD,
    st.booleans(),
)
CHARACTER = st.sampled_from(list(b'"\\{}[]:, \t\r0eE+-.tu/\x00\x1f\xff\xc3'))


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """Draw a line of which a byte or two are exchanged, left out or put in."""
    line = bytearray(draw(ITEMS))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(line)))
        line[place : place + draw(st.integers(0, 1))] = bytes(draw(st.lists(CHARACTER, max_size=1)))
    return bytes(line)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(
    lines=st.lists(ITEMS | bent() | st.sampled_from([b"", b"{}", b"[]"]), max_size=6),
    n_bytes=st.sampled_from([1, 10**6]),
)
def test_both_roads_give_the_same(tmp_path: Path, lines: list[bytes], n_bytes: int) -> None:
    path = tmp_path / "meta_a.json.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    with patch.object(batches, "BATCH_BYTES", n_bytes), patch.object(batches, "_READ_BYTES", 50):
        for on_bad_row in ("drop", "error"):
            assert outcome(path, on_bad_row=on_bad_row) == outcome(path, is_slow=True, on_bad_row=on_bad_row)


@pytest.mark.parametrize("name", ["meta_Industrial_and_Scientific.json.gz", "Industrial_and_Scientific_5.json.gz"])
def test_real_files_are_all_plain(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = gzip.decompress((shared_data / "raw-fixtures" / "amazon2018" / name).read_bytes()).splitlines(keepends=True)
    copies = [line.replace(b'"asin": "', b'"asin": "%d-' % n) for n in range(9) for line in real]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"".join(copies)))
    slow = outcome(path, is_slow=True)
    assert len(slow[1]) == 9 * len(real)
    monkeypatch.setattr(batches, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(amazon, "_objects", None)
    assert outcome(path) == slow


#: Line -> the row that it is.
PLAIN = {
    '{"asin": "B1", "description": ["a", "b"], "title": "x", "category": ["T", "C"]}': ("B1", "x", "T; C"),
    '{"asin": "B1", "title": "x", "category": [["T", "C"], [], [""]]}': ("B1", "x", "T; C"),
    '{"asin": "B1", "also_buy": [["B2"], {"title": "y"}]}': ("B1", None, None),
    '{"asin": "B1", "title": null, "category": null}': ("B1", None, None),
    '{"asin": "B1", "title": "", "category": []}': ("B1", None, None),
    r'{"asin": "B1", "title": "<span class=\"a\">T &amp; C<\/span>"}': ("B1", '<span class="a">T &amp; C</span>', None),
    r'{"asin": "B1", "t\u0069tle": "\u00e9\ud83d\ude00\u0000\u0041"}': ("B1", "\u00e9\N{GRINNING FACE}\0A", None),
    '{"videos": [{"title": "y"}], "asin": "B1", "title": "x", "details": {"title": "z"}}': ("B1", "x", None),
    '{"asin": "B1", "title": "y", "title": "x"}': ("B1", "x", None),
    json.dumps({"asin": "B1", "title": "x " * 50_000, "feature": "y" * 5_000_000}): ("B1", "x " * 50_000, None),
    ' {"asin": 12 ,\t"title":1e3, "category": true}\r': ("12", "1000.0", "True"),
}
#: Line that the fast road does not know -> the row that it is.
ODD_ROWS = {
    '{"asin": "B1", "title": {"en": "x"}}': ("B1", '{"en": "x"}', None),
    '{"asin": "B1", "title": ["x", 3, null, {}]}': ("B1", "x; 3; {}", None),
    '{"asin": "B1", "title": {}, "title": "x"}': ("B1", "x", None),
    '{"asin": "B1", "title": "x", "price": NaN}': ("B1", "x", None),
    "{'asin': 'B1', 'title': \"it's\", 'category': [('T', 'C')]}": ("B1", "it's", "T; C"),
    r'{"asin": "B1", "title": "x", "feature": "\ud83d"}': ("B1", "x", None),
}
#: Line -> what is said of it.
REFUSED = {
    r'{"asin": "B1", "title": "x\ud83d"}': r"line 3 of .* has half of a character in 'x\\ud83d'; expected whole",
    '{"asin": "B1", "title": "x': r"line 3 of .*\"title\": \"x'; expected one JSON object a line",
    '{"asin": "B1"} {"asin": "B2"}': r"line 3 of .*\"B2\"\}'; expected one JSON object a line",
    '["B1"]': r"line 3 of .* is '\[\"B1\"\]'; expected one JSON object a line",
}


def among_plain_ones(path: Path, line: str) -> Path:
    plain = [json.dumps({"asin": f"B{n}", "title": "Caf\u00e9", "category": ["T"]}) for n in (7, 8, 9)]
    path.write_bytes(gzip.compress("\n".join([*plain[:2], line, plain[2]]).encode(), 1))
    return path


def with_others(*row: str | None) -> list[tuple[str | None, ...]]:
    others = [(f"B{n}", "Caf\u00e9", "T") for n in (7, 8, 9)]
    return [*others[:2], *([row] if row else []), others[2]]


@pytest.mark.parametrize("line", [*PLAIN, *ODD_ROWS], ids=lambda line: line[:80])
def test_awkward_lines_are_read_by_both_roads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    path = among_plain_ones(tmp_path / "meta_a.json.gz", line)
    expected = (["asin", "title", "category"], with_others(*(PLAIN | ODD_ROWS)[line]), {})
    assert outcome(path, is_slow=True) == expected
    parsed: list[str] = []
    monkeypatch.setattr(amazon, "parse_object", lambda text: parsed.append(text) or parse_object(text))
    assert outcome(path) == expected
    assert parsed == ([line] if line in ODD_ROWS else [])


@pytest.mark.parametrize("line", REFUSED)
def test_bad_lines_are_refused_or_counted_by_both_roads(tmp_path: Path, line: str) -> None:
    path = among_plain_ones(tmp_path / "meta_a.json.gz", line)
    for is_slow in (False, True):
        assert re.search(REFUSED[line], str(outcome(path, is_slow=is_slow)))
        found = outcome(path, is_slow=is_slow, on_bad_row="drop")
        assert found == (["asin", "title", "category"], with_others(), {"unreadable_lines": 1})


def test_text_that_is_no_utf8_is_refused_in_any_field(tmp_path: Path) -> None:
    path = tmp_path / "meta_a.json"
    path.write_bytes(b'{"asin": "B1"}\n{"asin": "B2", "feature": "caf\xe9"}\n{"asin": "B3"}\n')
    assert re.search(r"line 2 of .* is not utf-8 \(.* at byte 31 of the line\)", str(outcome(path)))
    assert outcome(path, on_bad_row="drop") == (["asin"], [("B1",), ("B3",)], {"unreadable_lines": 1})


def test_columns_may_have_any_name_and_objects_none_of_them(tmp_path: Path) -> None:
    name = 'na"me\\\n of\0'
    path = tmp_path / "meta_a.json"
    path.write_text(json.dumps({"asin": "B1", name: "x"}) + '\n{"other": 1}\n')
    assert outcome(path, title_column=name) == (["asin", name], [("B1", "x"), (None, None)], {})
    path.write_text('{"other": 1}\n')
    with pytest.raises(ColumnError, match="has no column 'othre'; did you mean 'other'"):
        amazon.read_items(path, PrepareConfig(title_column="othre"))
