"""The study file: what is asked for is what is run, and mistakes are found before hours are spent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flr.errors import ConfigError
from flr.experiments.matrix import Study, cells, load_study

STUDY: dict[str, Any] = {
    "title": "t",
    "data": {"toy": {"folder": "toy", "settings": {"text.window": 5}, "seeds": {"two": 1}}},
    "variants": {
        "flr": {},
        "two": {"settings": {"reasoner.n_factors": 2, "text.window": 7}},
        "aligned": {"stage_two_of": "two", "settings": {"grpo.max_steps": 3}},
    },
    "reference": "flr",
    "seeds": [4, 5],
    "settings": {"text.window": 3, "training.max_steps": 9},
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return path


def test_cells_come_seed_by_seed_with_settings_layered(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    assert study.data["toy"].folder == (tmp_path / "toy").resolve()
    found = {(cell.variant, cell.seed): cell for cell in cells(study, tmp_path)}
    assert list(found) == [("flr", 4), ("two", 4), ("aligned", 4), ("flr", 5)]
    assert found["flr", 4].config.text.window == 5  # the data's, over the study's
    assert found["two", 4].config.text.window == 7  # the variant's, over both
    assert {cell.config.training.max_steps for cell in found.values()} == {9}
    assert found["flr", 5].config.seed == 5
    assert found["flr", 5].folder == tmp_path / "runs" / "toy" / "flr" / "seed-5"


def test_stage_two_keeps_the_settings_of_its_stage_one(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    found = {cell.variant: cell for cell in cells(study, tmp_path) if cell.seed == 4}
    assert found["aligned"].source == found["two"].folder
    assert found["aligned"].config.reasoner.n_factors == 2
    assert found["aligned"].config.grpo.max_steps == 3


def test_weights_and_assistants_are_taken_where_they_would_be_the_same(tmp_path: Path) -> None:
    variants = {
        "other cutoffs": {"weights_of": "flr", "settings": {"evaluation.cutoffs": [5, 10]}},  # before what it waits for
        "flr": {},
        "alone": {"weights_of": "flr", "settings": {"assistant.networks": []}},
        "two": {"settings": {"reasoner.n_factors": 2}},
        "other assistant": {"weights_of": "two", "settings": {"assistant.width": 32}},
        "aligned": {"stage_two_of": "two"},
        "no memory": {"settings": {"reasoner.memory": "none"}},
    }
    study = load_study(written(tmp_path, variants=variants, data={"toy": {"folder": "toy", "seeds": {"flr": 1}}}))
    found = {(cell.variant, cell.seed): cell for cell in cells(study, tmp_path)}
    assert ("alone", 5) not in found
    flr, two = found["flr", 4].folder, found["two", 4].folder
    assert {name: found[name, 4].after for name in variants} == {
        "other cutoffs": (flr, flr),
        "flr": (),
        "alone": (flr,),
        "two": (flr,),
        "other assistant": (two,),
        "aligned": (two,),
        "no memory": (),
    }
    assert (found["alone", 4].source, found["alone", 4].assistant) == (flr, None)
    assert (found["two", 4].source, found["two", 4].assistant) == (None, flr)
    assert (found["aligned", 4].source, found["aligned", 4].is_aligned) == (two, True)
    assert found["other assistant", 4].config.reasoner.n_factors == 2
    assert found["two", 5].after == ()  # flr has no such seed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "flrr"}, r"there is no variant 'flrr'.*'flr'"),
        ({"controls": ["tw"]}, r"there is no variant 'tw'.*'two'"),
        ({"baselines": ["sasrek"]}, r"there is no baseline 'sasrek'.*'sasrec'"),
        ({"seeds": [1]}, r"seeds"),
        ({"variant": {}}, r"variant: Extra inputs"),
        ({"seeds": [4, 4]}, r"got \[4, 4\], expected seeds that differ"),
        (
            {"variants": {"flr": {}, "two": {"weights_of": "flr", "settings": {"reasoner.n_factors": 2}}}},
            r"weights are taken from 'flr', so reasoner.n_factors cannot be set",
        ),
        ({"variants": {"flr": {}, "two": {"weights_of": "flr", "stage_two_of": "flr"}}}, r"exclude each other"),
        (
            {"variants": {"flr": {}, "two": {"weights_of": "flr"}, "three": {"stage_two_of": "two"}}},
            r"variant 'two' starts from another one itself",
        ),
        ({"variants": {"flr": {}, "two": {"weights_of": "fl"}}}, r"there is no variant 'fl'.*'flr'"),
        ({"variants": {"flr": {}, "two": {"compare_with": "fl"}}}, r"there is no variant 'fl'.*'flr'"),
        ({"variants": {"flr": {}, "two": {"compare_with": "two"}}}, r"variant 'two' is compared with itself"),
        (
            {"variants": {"flr": {"compare_with": "two"}, "two": {}}},
            r"the reference 'flr' is compared with 'two', expected nothing",
        ),
        (
            {"variants": {"flr": {}, "two": {"compare_with": "three"}, "three": {}}, "controls": ["two"]},
            r"control 'two' is compared with 'three', expected the reference 'flr'",
        ),
        ({"settings": {"text.windov": 3}}, r"variant 'flr' on 'toy'.*'text.windov'.*'window'|text.windov"),
        (
            {"settings": {"evaluation.cutoffs": [1, 10]}},
            r"variant 'flr' on 'toy': evaluation.cutoffs = \[1, 10\], expected 5 and 10 among them",
        ),
        ({"settings": {"training.max_steps": 0}}, r"training.max_steps = 0"),
        (
            {"data": {"toy": {"folder": "toy", "seeds": {"flr": 0}}}},
            r"data.toy.seeds.flr: .*greater than or equal to 1",
        ),
        ({"variants": {"flr": {}, "two": {}, "two/three": {}}}, r"variant 'two/three' is no name of a folder"),
        (
            {"variants": {"flr": {}, "two": {}, "no gate": {}, "no-Gate": {}}},
            r"variants 'no gate' and 'no-Gate' would share",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, **changes))


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the study file .*nothing\.yaml"):
        load_study(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"holds a list, expected a mapping"):
        load_study(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_studies_load(path: Path) -> None:
    study = load_study(path)
    assert {"single vector", "no thought"} <= set(study.controls)
    assert len(study.seeds) >= 5


def test_seeds_of_a_variant_may_be_fewer() -> None:
    study = Study.model_validate(STUDY)
    assert study.seeds_of("toy", "two") == (4,)
    assert study.seeds_of("toy", "aligned") == (4,)  # it needs a stage one
    assert study.seeds_of("toy", "flr") == (4, 5)


def test_what_is_compared_with_what() -> None:
    variants = {**STUDY["variants"], "aligned": {"stage_two_of": "two", "compare_with": "two"}}
    study = Study.model_validate({**STUDY, "variants": variants, "baselines": ["popularity"]})
    names = ("two", "aligned", "popularity")
    assert {name: study.compared_with(name) for name in names} == {"two": "flr", "aligned": "two", "popularity": "flr"}


def test_the_documents_show_what_is_compared_with_what() -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(variants:.*?)```", text, re.DOTALL)
    given = yaml.safe_load(shown)
    given["variants"]["flr"] = {}
    study = Study.model_validate({"title": "t", "data": {"toy": {"folder": "toy"}}, **given})
    assert (study.compared_with("K = 2"), study.compared_with("shared relations")) == ("shared relations", "flr")


def test_ablations_are_compared_with_what_differs_in_one_thing() -> None:
    study = load_study(Path(__file__).parents[2] / "configs" / "studies" / "ablations.yaml")
    for name, variant in study.variants.items():
        settings = dict(variant.settings)
        other = study.compared_with(name)
        of_other = study.variants[other].settings
        regularisers = {key for key in settings if key.startswith("objective.lambda_")}
        differing = {key for key in settings.keys() | of_other.keys() if settings.get(key) != of_other.get(key)}
        n_differing = len(differing - regularisers) + bool(regularisers)
        is_wide = "reasoner.factor_width" in settings  # a single vector and wider
        assert n_differing == (2 if is_wide else name != "flr" and variant.stage_two_of is None), name


def test_the_study_that_the_docs_start_from_is_one(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "studies.md"
    (block,) = re.findall(r"```yaml\n(title:.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "study.yaml").write_text(block)
    study = load_study(tmp_path / "study.yaml")
    assert (study.reference, study.seeds) == ("flr", (0, 1, 2, 3, 4))
    assert study.data["clicks"].folder == (tmp_path / "data" / "clicks").resolve()
