"""Settings: everything checked, nothing silently ignored, and every shipped file loads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from flr.config import (
    CONFIG_VERSION,
    AssistantConfig,
    Config,
    ReasonerConfig,
    as_trained,
    describe_settings,
    load_config,
    parse_config,
)
from flr.errors import ConfigError
from flr.prepare_config import PrepareConfig

SHIPPED = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_alone_are_a_config() -> None:
    assert load_config() == Config()


@pytest.mark.parametrize("said", ["no", "'no'", "bf16"])
def test_mixed_precision_may_be_said_without_quotes(said: str) -> None:
    assert load_config(None, [f"training.mixed_precision={said}"]).training.mixed_precision == said.strip("'")


def test_without_factors_nobody_votes() -> None:
    assert Config().reasoner.has_memory
    assert not load_config(None, ["reasoner.kind=none"]).reasoner.has_memory
    assert not load_config(None, ["reasoner.memory=none"]).reasoner.has_memory


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).version == CONFIG_VERSION


def test_there_are_shipped_configs() -> None:
    assert {"compact", "latentr3", "smollm2-135m"} <= {path.stem for path in SHIPPED}


def test_compact_spells_out_the_defaults() -> None:
    path = Path(__file__).parent.parent / "configs" / "compact.yaml"
    assert load_config(path) == Config()
    spelled = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert _keys(spelled) == {key for key, _, _ in describe_settings()}


@pytest.mark.parametrize("text", ["Items so far:", "[unclosed", "a: b"])
def test_text_that_looks_like_yaml_is_text(text: str) -> None:
    assert load_config(None, [f"text.preamble={text}"]).text.preamble == text


def test_file_over_defaults_and_overrides_over_file(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 3\ntraining: {learning_rate: 5e-4, max_steps: 7}\n")
    config = load_config(
        path, ["training.max_steps=9", "reasoner.n_factors = 2"], defaults={"seed": 1, "text": {"window": 5}}
    )
    assert (config.seed, config.text.window, config.reasoner.n_factors) == (3, 5, 2)
    assert (config.training.learning_rate, config.training.max_steps) == (5e-4, 9)
    assert config.training.eval_steps == Config().training.eval_steps


def test_defaults_are_not_changed_by_overrides() -> None:
    defaults = {"text": {"window": 5}}
    load_config(None, ["text.window=6"], defaults)
    assert defaults == {"text": {"window": 5}}


def test_a_resolved_copy_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(None, ["seed=4", "evaluation.cutoffs=[1, 10]", "text.preamble='a: b\n'"])
    assert parse_config(json.loads(config.model_dump_json())) == config
    assert load_config(written(tmp_path, yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing\n")) == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rat=1", "unknown setting 'training.learning_rat': did you mean 'learning_rate'?"),
        ("trianing.max_steps=1", "unknown setting 'trianing': did you mean 'training'?"),
        ("zzz=1", "unknown setting 'zzz': expected one of: version, seed, text"),
        ("training.max_steps.x=1", "training.max_steps = {'x': 1}"),
        ("training.max_steps=0", "training.max_steps = 0: Input should be greater than or equal to 1"),
        ("training.max_steps=many", "training.max_steps = 'many'"),
        ("reasoner.gate=hard", "reasoner.gate = 'hard': Input should be 'softmax' or 'uniform'"),
        ("evaluation.cutoffs=[]", "evaluation.cutoffs = []"),
        ("text=5", "'text' is a section with keys, got 5"),
        ("seed", "cannot read the override 'seed'; expected section.key=value"),
        ("=3", "cannot read the override '=3'; expected section.key=value"),
        ("version=2", "this config has version 2, this flr reads version 1"),
        ("backbone.width=190", "backbone.width 190 must be a multiple of 2 x n_heads = 8"),
        ("reasoner.n_factors=5", "backbone.width 192 must be a multiple of n_factors = 5"),
        ("backbone.train=lora", "backbone.train 'lora' needs pretrained weights"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, [override])


def test_an_instruction_needs_something_after_the_titles() -> None:
    with pytest.raises(ConfigError, match=r"text\.response_header '' leaves nothing after"):
        load_config(None, ["text.template=instruction", "text.response_header=''"])


def test_the_template_decides_which_texts_are_around_the_titles() -> None:
    texts = ["text.preamble=a", "text.instruction=b", "text.input_header=c", "text.response_header=d"]
    assert load_config(None, texts).text.around_titles == ("a", "")
    assert load_config(None, [*texts, "text.template=instruction"]).text.around_titles == ("bc", "d")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list, expected sections with keys"),
        ("a: [", "cannot read the config file"),
        ("version: 0\n", "this config has version 0"),
        ("reasoner: {n_factor: 3}\n", "unknown setting 'reasoner.n_factor': did you mean 'n_factors'?"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"there is no config file '{tmp_path / 'no.yaml'}'")):
        load_config(tmp_path / "no.yaml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_config(path)


def test_pretrained_backbones_may_have_any_width() -> None:
    assert load_config(None, ["backbone.source=smollm2-135m", "backbone.train=lora", "reasoner.n_factors=9"])


def test_every_setting_is_described() -> None:
    rows = describe_settings()
    assert all(meaning for _, _, meaning in rows)
    assert ("reasoner.gate", "softmax", "Aggregation weights of the factors. [softmax | uniform]") in rows


def test_a_protocol_is_defaults_that_ones_own_settings_overrule() -> None:
    mended = PrepareConfig(protocol="latentr3", min_user_interactions=3)
    assert (mended.split, mended.window_start, mended.widen_until_items) == ("temporal", "2017-10", 5_000)
    assert (mended.min_user_interactions, mended.min_item_interactions) == (3, 5)
    assert (mended.deduplicate, mended.title_rule, mended.cut_ties) == (True, "readable", "whole")
    strict = PrepareConfig(strict_latentr3=True)
    assert strict.protocol == "latentr3"
    assert (strict.deduplicate, strict.title_rule, strict.cut_ties) == (False, "d3", "user")
    assert PrepareConfig.model_validate(strict.model_dump()) == strict
    assert PrepareConfig().split == "leave_one_out"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "none", "strict_latentr3": True}, "strict_latentr3 contradicts protocol 'none'"),
        (
            {"window_start": "2018-11", "window_end": "2018-11"},
            "window_start 2018-11 must be before window_end 2018-11",
        ),
        ({"widen_until_items": 9}, "widen_until_items 9 needs a window_start"),
        ({"window_start": "2018-13"}, "2018-13"),
    ],
)
def test_windows_and_protocols_that_contradict_themselves(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        PrepareConfig.model_validate(settings)


def _keys(settings: dict[str, object], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in settings.items():
        found |= _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


def test_a_width_of_factors_is_given_once() -> None:
    settings = ["reasoner.full_width_factors=true", "reasoner.factor_width=64"]
    with pytest.raises(ConfigError, match=r"reasoner.full_width_factors and reasoner.factor_width 64 contradict"):
        load_config(None, settings)
    odd = load_config(None, ["reasoner.n_factors=5", "reasoner.factor_width=64"])
    assert odd.reasoner.width_of_factors(192) == 64
    assert load_config(None, ["reasoner.full_width_factors=true"]).reasoner.width_of_factors(192) == 192
    assert load_config().reasoner.width_of_factors(192) == 48


def test_saved_settings_mean_what_they_meant() -> None:
    old = as_trained({"seed": 3, "reasoner": {"n_factors": 2}})
    assert old["seed"] == 3
    assert parse_config(old).reasoner == ReasonerConfig(
        n_factors=2, memory="none", relations="shared", reads="tokens", reads_age=False
    )
    assert parse_config(old).assistant.networks == ()
    for kind, networks in (("none", ()), ("sasrec", ("sasrec",))):  # it had one network at first
        assert parse_config(as_trained({"assistant": {"kind": kind, "width": 8}})).assistant == AssistantConfig(
            networks=networks, width=8
        )
    with_gru = {"networks": ["gru4rec"], "learning_rate": 1e-3}  # all had one learning rate
    assert parse_config(as_trained({"assistant": with_gru})).assistant.recurrent_learning_rate == 1e-3
    new = load_config(None, ["reasoner.n_factors=2"]).model_dump(mode="json")
    assert as_trained(new) == new


def test_the_config_of_an_older_run_means_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("reasoner: {n_factors: 2}\ntraining: {max_steps: 7}\n")
    assert load_config(tmp_path / "config.yaml").reasoner.has_memory, "no run's: what is not set is the default"
    (tmp_path / "run.json").write_text("{}")
    older = load_config(str(tmp_path / "config.yaml"), ["training.eval_steps=3"])
    assert not older.reasoner.has_memory
    assert (older.reasoner.reads, older.assistant.networks) == ("tokens", ())
    assert (older.reasoner.n_factors, older.training.max_steps, older.training.eval_steps) == (2, 7, 3)
