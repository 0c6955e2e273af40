"""`flr prepare`: every setting is an option, and what was prepared is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flr
from flr.prepare_config import PrepareConfig

from .conftest import Run


def test_raw_files_become_a_prepared_folder(
    run: Run, raw: tuple[Path, Path], columns: tuple[str, ...], tmp_path: Path
) -> None:
    rows, items = raw
    result = run("prepare", "--interactions", rows, "--items", items, "--output", tmp_path / "data", *columns)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"prepared -> {tmp_path / 'data'}"
    assert f"flr audit {tmp_path / 'data'}" in result.stderr
    prepared = flr.load_prepared(tmp_path / "data")
    assert (prepared.sequences.n_users, prepared.sequences.n_interactions, prepared.items.height) == (3, 12, 4)


def test_json_is_the_manifest_with_the_settings(
    run: Run, raw: tuple[Path, Path], columns: tuple[str, ...], tmp_path: Path
) -> None:
    rows, items = raw
    result = run(
        *("prepare", "--interactions", rows, "--items", items, "--output", tmp_path / "data", *columns),
        *("--split", "temporal", "--train-fraction", 0.5, "--valid-fraction", 0.25, "--test-fraction", 0.25),
        *("--deduplicate", "--json", "--quiet"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    manifest = json.loads(result.stdout)
    assert manifest["split"] == "temporal"
    assert (manifest["settings"]["train_fraction"], manifest["settings"]["deduplicate"]) == (0.5, True)
    assert manifest["settings"]["min_user_interactions"] == PrepareConfig().min_user_interactions


def test_what_was_recognised_is_said(run: Run, tmp_path: Path) -> None:
    rows = [f"{u}::{10 + t}::{'x' if t else 5}::{1_000_000_000 + t}" for u in range(3) for t in range(4)]
    (tmp_path / "ratings.dat").write_text("\n".join(rows))
    (tmp_path / "movies.dat").write_bytes(
        "\n".join(f"{10 + t}::Caf\xe9 {t}::Drama" for t in range(4)).encode("latin-1")
    )
    result = run("prepare", "--interactions", tmp_path, "--output", tmp_path / "data")
    assert result.exit_code == 0, result.stderr
    assert f"read as movielens: {tmp_path / 'ratings.dat'}" in result.stderr
    assert f"read as movielens films: {tmp_path / 'movies.dat'}" in result.stderr
    assert "9 ratings are no numbers" in result.stderr


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("01234", None),
        ("0123", "note: 1 items of the interactions are not in the items table"),
        ("01", "warning: 2 of 5 items of the interactions are in the items table"),
    ],
)
def test_items_that_are_not_listed_are_said(run: Run, tmp_path: Path, listed: str, said: str | None) -> None:
    rows = [f"{user},{item},{item}" for user in "ab" for item in range(5)]
    (tmp_path / "rows.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *(f"{item},T{item}" for item in listed)]))
    arguments = ("--interactions", tmp_path / "rows.csv", "--items", tmp_path / "items.csv", "--output", tmp_path / "d")
    result = run("prepare", *arguments, "--missing-title", "fallback")
    assert result.exit_code == 0, result.stderr
    assert ("in the items table" in result.stderr) == (said is not None)
    assert said is None or said in " ".join(result.stderr.split())


def test_rows_that_were_dropped_are_told_by_reason(run: Run, tmp_path: Path) -> None:
    rows = [f"{u},{i},{i}" for u in "ab" for i in range(1, 5)]
    (tmp_path / "rows.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows, "a,9,", "a,9,soon", "a,8,"]))
    arguments = ("--interactions", tmp_path / "rows.csv", "--missing-title", "fallback", "--on-bad-row", "drop")
    result = run("prepare", *arguments, "--output", tmp_path / "data")
    assert result.exit_code == 0, result.stderr
    assert "dropped: 3 unreadable rows" in result.stderr
    assert "note: 2 left out because 'timestamp' is empty" in result.stderr
    assert "note: 1 left out because 'timestamp' is no time" in result.stderr


def test_few_listed_items_are_warned_of(run: Run, tmp_path: Path) -> None:
    rows = [f"{u},{i},{i}" for u in "ab" for i in range(1, 5)]
    (tmp_path / "rows.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    (tmp_path / "items.csv").write_text("item_id,title\n1,Anchor\n")
    arguments = ("--interactions", tmp_path / "rows.csv", "--items", tmp_path / "items.csv")
    result = run("prepare", *arguments, "--missing-title", "fallback", "--output", tmp_path / "data")
    assert result.exit_code == 0, result.stderr
    assert "warning: 1 of 4 items of the interactions are in the items table" in result.stderr


def test_low_ratings_are_left_out_and_counted(run: Run, tmp_path: Path) -> None:
    rows = [f"{u},{i},{i},{i}" for u in "ab" for i in range(1, 8)]
    (tmp_path / "rows.csv").write_text("\n".join(["user_id,item_id,timestamp,mark", *rows, "a,9,9,"]))
    arguments = ("prepare", "--interactions", tmp_path / "rows.csv", "--missing-title", "fallback")
    refused = run(*arguments, "--min-rating", 3, "--output", tmp_path / "data")
    assert refused.exit_code == 2
    assert "no rating column, which min_rating=3 needs" in refused.stderr
    result = run(*arguments, "--min-rating", 3, "--rating-column", "mark", "--output", tmp_path / "data")
    assert result.exit_code == 0, result.stderr
    assert "dropped: 4 rows below min rating" in result.stderr
    assert "dropped: 1 unrated rows" in result.stderr
    assert flr.load_prepared(tmp_path / "data").manifest["counts"]["interactions"] == 10


def test_an_official_split_that_is_left_aside_is_said(run: Run, shared_data: Path, tmp_path: Path) -> None:
    given = ("--split", "given", "--order-column", "pos")
    for settings, said in (((), True), (given, False)):
        arguments = ("prepare", "--interactions", shared_data / "raw-fixtures" / "d3", "--output", tmp_path / "data")
        result = run(*arguments, "--overwrite", *settings)
        assert result.exit_code == 0, result.stderr
        assert ("note: its own split is left aside" in result.stderr) == said
    counts = flr.load_prepared(tmp_path / "data").manifest["counts"]
    assert [counts[f"{part}_targets"] for part in ("train", "valid", "test")] == [150, 49, 55]


def test_a_protocol_is_named_and_its_window_is_said(run: Run, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "raw-fixtures" / "amazon2018"
    few = ("--min-user-interactions", 1, "--min-item-interactions", 1, "--widen-until-items", 60)
    for flag, n_rows in ((("--protocol", "latentr3"), 148), (("--strict-latentr3",), 193)):
        result = run("prepare", "--interactions", folder, "--output", tmp_path / "data", "--overwrite", *flag, *few)
        assert result.exit_code == 0, result.stderr
        assert "window: 2016-10 to 2018-11, of 2 tried" in result.stderr
        manifest = flr.load_prepared(tmp_path / "data").manifest
        assert manifest["counts"]["interactions"] == n_rows
        assert manifest["settings"]["protocol"] == "latentr3"


def test_an_existing_folder_is_replaced_only_when_asked(
    run: Run, raw: tuple[Path, Path], columns: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("prepare", "--interactions", raw[0], "--items", raw[1], "--output", tmp_path / "data", *columns)
    assert run(*arguments).exit_code == 0
    before = (tmp_path / "data" / "manifest.json").stat().st_mtime_ns
    refused = run(*arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert str(tmp_path / "data") in refused.stderr
    assert (tmp_path / "data" / "manifest.json").stat().st_mtime_ns == before
    assert run(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize("name", PrepareConfig.model_fields)
def test_every_setting_is_an_option_with_its_meaning(run: Run, name: str) -> None:
    shown = run("prepare", "--help").output
    assert f"--{name.replace('_', '-')} " in shown
    assert (PrepareConfig.model_fields[name].description or "").split()[0] in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "o"), "got neither"),
        (("ml-100k", "--interactions", "rows.csv", "--output", "o"), "got both 'ml-100k' and 'rows.csv'"),
        (("ml-100k", "--items", "items.csv", "--output", "o"), "leave --items 'items.csv' out"),
        (("--interactions", "no-such.csv", "--output", "o"), "no-such.csv"),
        (("ml-100", "--output", "o"), "did you mean 'ml-100k'?"),
        (("ml-100k", "--output", "o", "--train-fraction", "0.5"), "must be 1, got 0.7"),
        (("ml-100k", "--output", "o", "--min-user-interactions", "0"), "--min-user-interactions 0: "),
        (("ml-100k", "--output", "o", "--split", "random"), "'random'"),
        (("ml-100k", "--output", "o", "--protocol", "none", "--strict-latentr3"), "contradicts protocol 'none'"),
        (("ml-100k", "--output", "o", "--window-start", "2018"), "--window-start 2018: "),
    ],
)
def test_what_cannot_be_prepared_is_one_clear_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run("prepare", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not Path("o").exists()


def test_a_wrong_column_names_the_nearest(run: Run, raw: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("prepare", "--interactions", raw[0], "--output", tmp_path / "data", "--user-column", "persn")
    assert result.exit_code == 2
    assert "'persn'" in result.stderr
    assert "'person'" in result.stderr
