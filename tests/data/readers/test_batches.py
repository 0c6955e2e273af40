"""Batches of lines: where they end, damage, and that reading by batches gives what reading line by line gives."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amazon_roads import outcome
from flr.data.readers import amazon, batches, read
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig

REVIEW = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_400_000_000, "reviewText": "x"}
PLAIN = json.dumps(REVIEW).encode()
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def pairs(*items: tuple[str, str], between: str = ", ", colon: str = ": ") -> bytes:
    """Return an object as JSON from names and values that are JSON already."""
    return ("{" + between.join(name + colon + value for name, value in items) + "}").encode("utf-8", "surrogatepass")


TEXT = st.sampled_from(["A1", "B000000001", "0001234567", "1234", "true", "[x", "", 'a"b', "\0", "\N{GRINNING FACE}"])
TEXT |= st.text(max_size=4) | st.text(st.characters(categories=["Cs", "Lu", "Co"]), max_size=3)
NUMBER = st.sampled_from([5.0, 5, 0.1, 1e300, -0.0, 2**63, 2**64, True, None, "5", float("nan"), [5], 1.4e9])
NUMBER |= st.integers(-(2**40), 2**40) | st.floats()
VALUE = {
    "reviewerID": TEXT,
    "asin": TEXT | NUMBER | st.sampled_from([[], ["B1"], {"B": 1}]),
    "overall": NUMBER,
    "unixReviewTime": NUMBER,
    "reviewText": TEXT,
}
USUAL = st.builds(lambda user, rating: json.dumps(REVIEW | {"reviewerID": f"A{user}", "overall": rating / 2}).encode(),
                  st.integers(0, 9), st.integers(0, 10))  # fmt: skip


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Draw an object with fields missing, repeated, escaped and of other kinds, in some way to write it."""
    names = draw(st.sampled_from([list(VALUE), list(VALUE), list(VALUE)[1:], [*VALUE, "asin"], ["asin", *VALUE]]))
    odd = draw(st.sampled_from([*VALUE, "", ""]))
    dump = {"ensure_ascii": draw(st.booleans())}
    items = [
        (
            json.dumps(name) if draw(st.integers(0, 9)) else json.dumps(name).replace("a", "\\u0061"),
            json.dumps(draw(VALUE[name]) if name == odd else REVIEW[name], **dump),
        )
        for name in names
    ]
    form = draw(st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : "), (",\r", ":\t")]))
    return pairs(*items, between=form[0], colon=form[1])


OTHER = st.sampled_from(
    [b"", b"  ", b"\x0c", b"[]", b"null", b"3", PLAIN + PLAIN, PLAIN + b" ", PLAIN + b",", PLAIN[:-3], b"\xff"]
    + [b"\xef\xbb\xbf" + PLAIN, repr(REVIEW).encode(), b'{"x": ' + PLAIN + b"}", PLAIN[:-1] + b', "x": ' + PLAIN + b"}"]
    + [PLAIN.replace(b"A1", half) for half in (rb"\ud83d", rb"\ude00", rb"\ud83d\ue000", rb"\ud83d\ude00", rb"\x41")]
)
LINES = st.lists(st.one_of(USUAL, USUAL, USUAL, objects(), OTHER), max_size=8)
SPACED_REPEAT = PLAIN[:-1] + b', "asin": "B2"}'


@one_folder
@given(lines=LINES, end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), n_bytes=st.sampled_from([1, 300, 10**6]))
@example(lines=[SPACED_REPEAT, PLAIN.replace(b'"asin":', b'"asin" :')], end=b"\n", last=True, n_bytes=10**6)
@example(lines=[b'{"\\u0061sin": "B2", ' + PLAIN[1:]], end=b"\n", last=True, n_bytes=10**6)
@example(lines=[PLAIN.replace(b'"B1"', b"true")], end=b"\n", last=True, n_bytes=10**6)
@example(lines=[PLAIN.replace(b"A1", rb"\ud83d\ue000")], end=b"\n", last=True, n_bytes=10**6)
def test_batches_and_lines_give_the_same(
    tmp_path: Path, lines: list[bytes], end: bytes, last: bool, n_bytes: int
) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(end.join([PLAIN, *lines]) + (end if last else b""), 1))
    with patch.object(batches, "BATCH_BYTES", n_bytes), patch.object(batches, "_READ_BYTES", 50):
        for on_bad_row in ("drop", "error"):
            expected = outcome(path, is_slow=True, on_bad_row=on_bad_row)
            assert outcome(path, on_bad_row=on_bad_row) == expected


PACKS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "two parts and zeros": lambda data: gzip.compress(data[:9]) + bytes(70) + gzip.compress(data[9:]) + bytes(70),
}


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS.keys())
@one_folder
@given(
    data=st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"b" * 90])).map(b"".join),
    n_bytes=st.integers(1, 40),
    n_read=st.integers(2, 99),
)
def test_batches_are_whole_lines(
    tmp_path: Path, pack: Callable[[bytes], bytes], data: bytes, n_bytes: int, n_read: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(pack(data))
    with patch.object(batches, "BATCH_BYTES", n_bytes), patch.object(batches, "_READ_BYTES", n_read):
        found = list(batches.batches(path))
    assert b"".join(batch.data for batch in found) == data
    assert all(batch.data.endswith(b"\n") for batch in found[:-1])
    first = 1
    for batch in found:
        assert batch.first == first
        first += len(batch.data.removesuffix(b"\n").split(b"\n"))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("n_bytes", [1, 1000, 10**6])
def test_what_is_as_expected_is_never_read_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, n_bytes: int
) -> None:
    text = 'Said "asin": "B2", \\ {}\n\N{GRINNING FACE}' + "long " * 1000
    made = [
        REVIEW | {"asin": f"{n:010d}", "unixReviewTime": n, "overall": 4, "reviewText": text[n:]} for n in range(30)
    ]
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(end.join(json.dumps(one, ensure_ascii=one["asin"] > "1").encode() for one in made)))
    monkeypatch.setattr(batches, "BATCH_BYTES", n_bytes)
    monkeypatch.setattr(amazon, "_objects", None)
    assert read(path).frame.rows() == [("A1", f"{n:010d}", n, 4.0) for n in range(30)]


def test_a_bad_line_of_a_later_batch_has_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    lines = [PLAIN, PLAIN, repr(REVIEW | {"asin": "B2"}).encode(), b"", PLAIN, b"oops", PLAIN, b"oops", PLAIN]
    path.write_bytes(b"\n".join(lines))
    for n_bytes in (1, 200, 10**6):
        monkeypatch.setattr(batches, "BATCH_BYTES", n_bytes)
        with pytest.raises(ReadError, match=r"line 6 of .*a.json' is 'oops'; expected one JSON object a line"):
            read(path)
        record = read(path, None, PrepareConfig(on_bad_row="drop"))
        assert record.frame["item_id"].to_list() == ["B1", "B1", "B2", "B1", "B1", "B1"]
        assert record.dropped == {"unreadable_lines": 2}


@pytest.mark.parametrize("on_bad_row", ["drop", "error"])
def test_a_damaged_file_is_refused_wherever_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_bad_row: Any
) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 500)
    monkeypatch.setattr(batches, "_READ_BYTES", 64)
    whole = gzip.compress(b"\n".join(json.dumps(REVIEW | {"unixReviewTime": n * n}).encode() for n in range(300)))
    cut = {f"cut{n}": whole[:-n] for n in (1, 4, 8, 9, len(whole) // 2)}
    bent = {f"bent{n}": whole[:-n] + bytes([whole[-n] ^ 1]) + whole[-n:][1:] for n in (1, 5, len(whole) // 2)}
    for name, data in {**cut, **bent, "more": whole + b"more"}.items():
        path = tmp_path / f"{name}.json.gz"
        path.write_bytes(data)
        message = outcome(path, on_bad_row=on_bad_row)
        assert message == outcome(path, is_slow=True, on_bad_row=on_bad_row)
        # What is bent in the middle may come out as a bad line before it comes out as damage.
        bad_line = (
            r"line \d+ of .* expected one JSON object a line|" if (on_bad_row, name[:4]) == ("error", "bent") else ""
        )
        assert re.match(
            rf"{bad_line}'.*{name}.json.gz' is damaged or cut off after line \d+ .*fetch it again", str(message)
        )


def test_what_goes_wrong_in_the_thread_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReadError, match=r"nowhere' is damaged or cut off after line 0 .*fetch it again"):
        list(batches.batches(tmp_path / "nowhere"))
    (tmp_path / "fine").write_bytes(b"a\n")
    monkeypatch.setattr(batches, "_blocks", lambda path: iter([b"a\n", 3]))
    with pytest.raises(ReadError, match=r"fine' cannot be unpacked \(.*int.*\); expected a whole file") as caught:
        list(batches.batches(tmp_path / "fine"))
    assert isinstance(caught.value.__cause__, TypeError)


def test_whoever_stops_early_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 1)
    monkeypatch.setattr(batches, "_READ_BYTES", 10)
    (tmp_path / "x").write_bytes(b"line\n" * 1000)
    found = batches.batches(tmp_path / "x")
    assert next(found).data == b"line\nline\n"
    found.close()


def test_metadata_come_by_batches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_BYTES", 40)
    (tmp_path / "a.json").write_bytes(PLAIN)
    items = [{"asin": f"B{n}", "title": f"Caf\u00e9 {n}", "category": ["Toys", str(n)]} for n in range(9)]
    (tmp_path / "meta_a.json.gz").write_bytes(gzip.compress("\n".join(map(repr, items)).encode()))
    assert read(tmp_path / "a.json").items.rows() == [(f"B{n}", f"Caf\u00e9 {n}", f"Toys; {n}") for n in range(9)]
