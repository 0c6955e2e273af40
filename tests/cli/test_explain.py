"""`flr explain` and `flr profile` on a tiny trained run, as a person would type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.config import load_config
from flr.recommender import Recommender
from flr.training.run import train_run
from toy import TINY, prepared_ring, toy_catalogue, toy_model, toy_tokenizer

from .conftest import Run

ASKED = ("--by", "title", "--history", "Toy Story (1995)", "--history", "Heat (1995)", "--history", "Alien (1979)")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    train_run(load_config(None, TINY), prepared_ring(folder / "data"), folder / "run")
    return folder / "run"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Save a model without a thought."""
    return saved(tmp_path / "plain", "reasoner.kind=none")


def saved(folder: Path, *overrides: str) -> Path:
    model, compiled, config = toy_model(*overrides)
    Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config).save(folder)
    return folder


def test_purchases_and_factors_are_shown(run: Run, trained: Path) -> None:
    result = run("explain", "--run", trained, *ASKED, "-k", 3, "--include-seen")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Aliens (1986)  (id i9)\nrank 1, probability 9")  # the ring goes on
    for shown in ("purchases, latest first", "attention", "influence", "factors: without one", "contribution"):
        assert shown in result.stdout
    for title in ("Toy Story (1995)", "Heat (1995)", "Alien (1979)"):
        assert title in result.stdout


def test_json_holds_what_the_tables_are_made_of(run: Run, trained: Path) -> None:
    result = run("explain", "--run", trained, *ASKED, "--item", "Blue (1993)", "--fidelity", "--json")
    shown = json.loads(result.stdout)
    assert shown["explanation"]["item"]["title"] == "Blue (1993)"
    assert [one["title"] for one in shown["explanation"]["history"]] == [*ASKED[3::2]]
    assert len(shown["explanation"]["factors"]) == 4
    assert shown["explanation"]["sources"] == []
    assert [one["measure"] for one in shown["fidelity"]] == ["attention", "gated", "leave-one-out", "latest"]
    assert shown["check"] is None


def test_what_is_skipped_is_told(run: Run, trained: Path) -> None:
    asked = ("explain", "--run", trained, *ASKED, "--history", "NOPE", "--unknown", "skip")
    assert "skipped: NOPE, which the catalogue does not have\n" in run(*asked).stdout
    assert json.loads(run(*asked, "--json").stdout)["skipped"] == ["NOPE"]


def test_where_probabilities_come_from_is_shown_where_there_is_a_memory(run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "remembering", "reasoner.memory=transitions")
    shown = run("explain", "--run", folder, *ASKED).stdout
    for expected in ("where probabilities come from", "written titles", "votes of the factors", "assistant"):
        assert expected in shown
    found = json.loads(run("explain", "--run", folder, *ASKED, "--json").stdout)["explanation"]["sources"]
    assert [one["source"] for one in found] == ["titles", "votes", "assistant"]


def test_a_steered_list_is_explained(run: Run, trained: Path) -> None:
    steering = ("--factor-weights", "0,1,2,1", "--exclude", "i9")
    shown = json.loads(run("recommend", "--run", trained, *ASKED, *steering, "--json").stdout)[0]["items"]
    found = json.loads(run("explain", "--run", trained, *ASKED, *steering, "--json").stdout)["explanation"]
    assert [item["item_id"] for item in found["items"]] == [item["item_id"] for item in shown]
    assert found["item"]["log_prob"] == pytest.approx(shown[0]["log_prob"], abs=1e-5)
    assert found["factors"][0]["gate"] == 0
    tested = json.loads(run("explain", "--run", trained, *ASKED, *steering, "--fidelity", "--json").stdout)
    assert tested["fidelity"][0]["deletion"][-1] == pytest.approx(found["item"]["log_prob"], abs=1e-5)
    out = run("explain", "--run", trained, *ASKED, *steering, "--item", "Aliens (1986)").stdout
    assert "left out by the filters" in out


def test_explanations_are_checked_on_users(run: Run, trained: Path) -> None:
    result = run("explain", "--run", trained, "--check", 6, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "fidelity over 6 users" in result.stdout
    assert "leave-one-out   +" in result.stdout
    assert result.stderr == ""
    found = json.loads(run("explain", "--run", trained, "--check", 6, "--quiet", "--json").stdout)
    assert found["explanation"] is None
    assert {one["n_users"] for one in found["check"]} == {6}


def test_profiles_are_kept_and_name_the_factors(run: Run, trained: Path) -> None:
    result = run("profile", "--run", trained, "--split", "train")
    assert result.exit_code == 0, result.stderr
    assert "4 factors on 288 targets of 48 users (train)" in result.stdout
    assert "no attribute of the items" in result.stdout
    kept = json.loads((trained / "model" / "factor_profiles.json").read_text(encoding="utf-8"))
    named = run("explain", "--run", trained, *ASKED).stdout
    for factor in kept["factors"]:
        assert f"{factor['factor'] + 1}  {factor['name']}" in named
    as_json = json.loads(run("profile", "--run", trained, "--quiet", "--json").stdout)
    assert as_json["split"] == "valid"
    assert [one["factor"] for one in as_json["factors"]] == [0, 1, 2, 3]


def test_a_model_without_a_thought(run: Run, plain: Path) -> None:
    result = run("explain", "--run", plain, "--history", "i1", "--history", "i2")
    assert result.exit_code == 0, result.stderr
    assert "this model has no thought (reasoner.kind = none), so there are no factors" in result.stdout
    alone = run("explain", "--run", plain, "--history", "i1").stdout
    assert "the only purchase: without it there would be nobody to recommend to" in alone


def test_remarks_on_the_item_and_the_history(run: Run, plain: Path) -> None:
    history = [part for item in ("i0", "i1", "i2", "i3", "i4", "i5", "i7", "i8") for part in ("--history", item)]
    shown = run("explain", "--run", plain, *history, "--item", "i7").stdout
    assert "in the history already, shares its title with 1 more" in shown
    assert "the model reads the last 6 items; the 2 older ones have no influence" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got neither --history (repeated) nor --check"),
        (["--history", "i55"], "history number 0: no item has the id 'i55'; did you mean 'i5'"),
        (["--history", "Heat (1995)"], "it is the title of one (to give titles instead, say --by title)"),
        (["--by", "title", "--history", "i1"], "it is the id of one (to give ids instead, say --by id)"),
        (["--history", "i1", "--item", "i66"], "error: no item has the id 'i66'; did you mean 'i6'"),
        (["--history", "x", "--unknown", "skip"], "holds unknown items only"),
        (["--history", "i1", "--fidelity"], "orders what is read of a history, got 1 item; expected two"),
        (["--check", "2", "--factor-weights", "1,0,1,1"], "leave --factor-weights out"),
        (["--check", "2", "--where", "year=1990"], "leave --where out"),
        (["--check", "2", "--history", "i1", "--exclude", "i2"], "leave --exclude out"),
        (["--check", "2", "--include-seen"], "lists that nobody steered; leave --include-seen out"),
        (["--check", "2", "--item", "i1"], "got --item without --history; --check has items of its own"),
        (["--check", "2", "--fidelity"], "so leave --fidelity out"),
        (["--history", "i1", "--factor-weights", "1,0"], "got 2 factor weights, this model has 0 factors"),
        (["--history", "i1", "--exclude", "i66"], "no item has the id 'i66'"),
    ],
)
def test_what_cannot_be_explained(run: Run, plain: Path, arguments: list[str], said: str) -> None:
    result = run("explain", "--run", plain, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_damaged_file_of_profiles_is_said(run: Run, plain: Path) -> None:
    (plain / "factor_profiles.json").write_text("{", encoding="utf-8")
    result = run("explain", "--run", plain, "--history", "i1")
    assert result.exit_code == 2
    assert "cannot read the file of factor profiles" in result.stderr
