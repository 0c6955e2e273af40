"""LC-Rec: lists of items in order, without times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig


def write(folder: Path, interactions: str, items: str = '{"5": {"title": "Anchor"}}') -> Path:
    (folder / "X.inter.json").write_text(interactions, encoding="utf-8")
    (folder / "X.item.json").write_text(items, encoding="utf-8")
    return folder


def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["lcrec"]
    raw = json.loads((folder / "lcrec" / "Industrial" / "Industrial.inter.json").read_text())
    for path in (folder / "lcrec" / "Industrial", folder / "lcrec" / "Industrial" / "Industrial.inter.json"):
        record = read(path)
        assert len(record.frame) == expected["interactions"] == 190
        assert record.frame["user_id"].n_unique() == expected["users"] == 50
        assert len(record.items) == expected["items"] == 80
        assert record.items["title"][1] == "Bessey BV-NVJ Multi-Purpose Vise Jaws (Jaws Only)"
        assert record.source["interactions"]["format"] == "lcrec"
        prepared = prepare(record)
        index = prepared.items["item_id"].to_list()
        for user, (start, end) in enumerate(
            zip(prepared.sequences.offsets, prepared.sequences.offsets[1:], strict=False)
        ):
            taken = [int(index[item]) for item in prepared.sequences.item_index[start:end]]
            assert taken == raw[prepared.sequences.user_ids[user]]


def test_the_place_is_the_order_and_stands_in_for_time(tmp_path: Path) -> None:
    record = read(write(tmp_path, '{"b": [9, 5, 9], "a": ["5"]}'))
    assert record.frame.select("user_id", "item_id", "timestamp", "order").rows() == [
        ("b", "9", 0, 0),
        ("b", "5", 1, 1),
        ("b", "9", 2, 2),
        ("a", "5", 0, 0),
    ]
    assert record.source["time"] == "none: the place in a user's list stands in for it"
    settings = PrepareConfig(deduplicate=True, order_column="pos", missing_title="fallback")
    assert prepare(record, settings).manifest["dropped"] == {"duplicate_rows": 0}
    with pytest.raises(ReadError, match="has no times, which split='temporal' needs"):
        read(tmp_path, None, PrepareConfig(split="temporal"))


def test_users_without_items_are_counted(tmp_path: Path) -> None:
    record = read(write(tmp_path, '{"a": [], "b": [5]}'))
    assert (len(record.frame), record.dropped) == (1, {"users_without_items": 1})


BAD = {
    "no list": ('{"a": 5}', r"user 'a' of .*X.inter.json' has '5'; expected a list of item ids"),
    "list in list": ('{"a": [[5]]}', r"user 'a' of .* has '\[\[5\]\]'"),
    "fraction": ('{"a": [5.5]}', r"user 'a' of .* has '\[5.5\]'"),
    "twice": ('{"a": [5], "a": [6]}', r"X.inter.json' has the key 'a' twice"),
    "cut off": ('{"a": [5', r"cannot read .*X.inter.json' as lcrec: .*expected one JSON object"),
    "no object": ("[5]", r"X.inter.json' holds '\[5\]'; expected one JSON object"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_damage_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read(write(tmp_path, text))


def test_damaged_items_and_wrong_encodings_are_said(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"item '5' of .*X.item.json' has '3'; expected its fields"):
        read(write(tmp_path, '{"a": [5]}', '{"5": 3}'))
    with pytest.raises(ReadError, match=r"X.item.json' has half of a character in 'Anchor .*expected whole ones"):
        read(write(tmp_path, '{"a": [5]}', '{"5": {"title": "Anchor \\ud83d"}}'))
    (tmp_path / "X.inter.json").write_bytes('{"é": [5]}'.encode("latin-1"))
    with pytest.raises(ReadError, match=r"X.inter.json' is not UTF-8 \(.* at byte 2\)"):
        read(tmp_path)
