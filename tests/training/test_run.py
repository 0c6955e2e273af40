"""Training end to end on a world whose answer is known; results do not depend on how batches are cut."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flr.config import Config, load_config
from flr.errors import ArtifactError, ConfigError, DataError, FlrError, StorageError
from flr.progress import Silent, Step
from flr.recommender import Recommender
from flr.training.finished import evaluate_run
from flr.training.folder import RunFolder
from flr.training.run import train_run, untrained
from processes import train_in_two_processes
from toy import INSTRUCTION, TINY, TITLES, prepared_ring, save_pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "ring"
    train_run(load_config(None, TINY), data, run)
    return run


def short(*overrides: str) -> Config:
    return load_config(None, [*TINY, "training.max_steps=8", "training.eval_steps=4", *overrides])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


class InterruptedAt(Silent):
    """A progress that presses Ctrl-C after so many steps, of any task or of one."""

    def __init__(self, n_steps: int, of: str | None = None) -> None:
        self.left, self.of = n_steps, of

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(n: int = 1, note: str = "") -> None:
            self.left -= n if self.of in (None, name) else 0
            if self.left < 0:
                raise KeyboardInterrupt

        yield step


def test_the_ring_is_learned_exactly(trained: Path) -> None:
    report = evaluate_run(trained, split="test")
    assert report.metrics["hr@1"] == 1.0
    saved = json.loads((trained / "metrics.json").read_text())
    assert saved["test"]["ndcg@10"] == saved["valid"]["ndcg@10"] == 1.0


def test_a_model_before_its_training_is_made_again(data: Path, tmp_path: Path) -> None:
    hardly = ["training.max_steps=1", "training.eval_steps=1", "training.learning_rate=1e-12", "assistant.networks=[]"]
    train_run(load_config(None, [*TINY, *hardly, "seed=3"]), data, tmp_path / "run")
    trained = Recommender.load(tmp_path / "run", device="cpu")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = untrained(trained).model.state_dict()
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in trained.model.state_dict().items():
        if name != "memory.trust.bias":  # settled on validation
            torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-9)


def test_the_ring_is_learned_from_instructions_too(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_run(load_config(None, [*TINY, *INSTRUCTION, "training.batch_tokens=1600"]), data, run)
    assert evaluate_run(run, split="test").metrics["hr@1"] == 1.0
    prompts = Recommender.load(run).compiled.template
    assert not prompts.shares_prefixes


def test_the_run_folder_says_how_it_came_about(trained: Path) -> None:
    facts = json.loads((trained / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["versions"]["torch"] == str(torch.__version__)
    assert facts["config"]["training"]["max_steps"] == 80
    assert load_config(trained / "config.yaml") == load_config(None, TINY)
    steps = [json.loads(line)["step"] for line in (trained / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert not (trained / "checkpoints").exists()


def test_a_person_the_training_never_saw_gets_the_next_item(trained: Path) -> None:
    recommender = Recommender.load(trained)
    best = recommender.recommend([["Alien (1979)"], ["Blue (1993)", "Toy Story (1995)"]], k=1, by="title")
    ring = list(dict.fromkeys(TITLES))
    expected = [ring[ring.index("Alien (1979)") + 1], ring[ring.index("Toy Story (1995)") + 1]]
    assert [items[0].title for items in best] == expected


@pytest.mark.parametrize("halves", [[], ["backbone.dtype=bfloat16", "training.mixed_precision=bf16"]])
def test_a_pretrained_model_trains_with_lora_through_the_same_door(
    halves: list[str], data: Path, tmp_path: Path
) -> None:
    save_pretrained(tmp_path / "pretrained", "qwen2")
    lora = ["backbone.train=lora", "backbone.n_layers=2", "text.preamble=Taken so far:", "training.max_steps=40"]
    config = load_config(None, [*TINY, f"backbone.source={tmp_path / 'pretrained'}", *lora, *halves])
    summary = train_run(config, data, tmp_path / "run")
    assert 0 < summary.n_trained_parameters < summary.n_parameters / 2
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < losses[0]
    # What is saved has the LoRA matrices folded in, and scores as the model did while it was trained.
    report, rounding = evaluate_run(tmp_path / "run", split="valid"), 2e-2 if halves else 1e-3
    assert {name: report.metrics[name] for name in summary.valid} == pytest.approx(summary.valid, abs=rounding)


def test_bfloat16_autocast_trains(data: Path, tmp_path: Path) -> None:
    summary = train_run(short("training.mixed_precision=bf16"), data, tmp_path / "run")
    assert summary.n_steps == 8
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "run").values())


def test_an_interrupted_run_resumes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    config = short("backbone.dropout=0.1", "objective.weighting=uncertainty")
    train_run(config, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_run(config, data, tmp_path / "cut", progress=InterruptedAt(6))
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["status"] == "running"
    with pytest.raises(ArtifactError, match="finish it with `flr train --resume`"):
        evaluate_run(tmp_path / "cut")
    summary = train_run(config, data, tmp_path / "cut", resume=True)
    assert summary.n_steps == 8
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logged = [(tmp_path / name / "log.jsonl").read_text().count('"eval_ndcg@10"') for name in ("whole", "cut")]
    assert logged == [2, 2]


def test_a_resumed_run_has_the_patience_that_was_left(data: Path, tmp_path: Path) -> None:
    config = short(
        "training.max_steps=40", "training.eval_steps=2", "training.patience=3", "training.learning_rate=1e-9"
    )
    assert train_run(config, data, tmp_path / "whole").n_steps == 8
    with pytest.raises(KeyboardInterrupt):
        train_run(config, data, tmp_path / "cut", progress=InterruptedAt(7, of="train"))
    assert train_run(config, data, tmp_path / "cut", resume=True).n_steps == 8


def test_a_finished_run_is_left_alone_when_resumed(data: Path, trained: Path) -> None:
    before = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    summary = train_run(load_config(None, TINY), data, trained, resume=True)
    assert (summary.valid["ndcg@10"], summary.n_steps) == (1.0, 80)
    assert (trained / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_accumulation_and_processes_do_not_move_the_weights(data: Path, tmp_path: Path) -> None:
    # Eight rows per step, cut as one batch of eight, as eight of one, and as two processes with four of one.
    row = ["training.row_tokens=80", "training.max_steps=4"]
    cuts = {
        "whole": [*row, "training.batch_tokens=640"],
        "accumulated": [*row, "training.batch_tokens=80", "training.gradient_accumulation_steps=8"],
        "processes": [*row, "training.batch_tokens=80", "training.gradient_accumulation_steps=4"],
    }
    for name in ("whole", "accumulated"):
        train_run(short(*cuts[name]), data, tmp_path / name)
    overrides = [part for value in short_overrides(*cuts["processes"]) for part in ("--set", value)]
    train_in_two_processes("--data", data, "--output", tmp_path / "processes", *overrides)
    whole = weights(tmp_path / "whole")
    for name in ("accumulated", "processes"):
        for key, tensor in weights(tmp_path / name).items():
            torch.testing.assert_close(tensor, whole[key], rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    valid = [json.loads((tmp_path / name / "metrics.json").read_text())["valid"] for name in ("whole", "processes")]
    assert valid[0] == pytest.approx(valid[1], abs=1e-3)


def short_overrides(*overrides: str) -> list[str]:
    return [*TINY, "training.max_steps=8", "training.eval_steps=4", *overrides]


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["evaluation.cutoffs=[5]"], ConfigError, r"\(5,\) must hold 10"),
        (["seed=3"], ArtifactError, "other settings"),
    ],
)
def test_what_cannot_be_trained_is_said(
    overrides: list[str], error: type[FlrError], said: str, data: Path, trained: Path
) -> None:
    with pytest.raises(error, match=said):
        train_run(load_config(None, [*TINY, *overrides]), data, trained, resume=True)


def test_a_folder_that_is_no_run_is_never_replaced(data: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ArtifactError, match="not empty; --resume continues"):
        train_run(short(), data, tmp_path)
    with pytest.raises(ArtifactError, match=r"holds no run\.json"):
        train_run(short(), data, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_titles_that_are_all_equal_leave_nothing_to_choose(tmp_path: Path) -> None:
    data = prepared_ring(tmp_path / "data", ["Same (1990)"] * 5)
    with pytest.raises(DataError, match=r"all 5 items are called 'Same \(1990\)'"):
        train_run(short(), data, tmp_path / "run")


def test_what_is_refused_costs_no_earlier_run_and_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    train_run(short(), data, tmp_path / "run")
    before = weights(tmp_path / "run")
    for output in ("run", "new"):
        with pytest.raises(ArtifactError, match=r"there is no model folder '\./nowhere'"):
            train_run(short("backbone.source=./nowhere"), data, tmp_path / output, overwrite=True)
    after = weights(tmp_path / "run")
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not (tmp_path / "new").exists()


def test_a_run_of_other_data_is_not_evaluated(trained: Path, tmp_path: Path) -> None:
    other = prepared_ring(tmp_path / "other", n_users=12)
    with pytest.raises(ArtifactError, match="give the folder it was trained on"):
        evaluate_run(trained, data=other)


def test_data_that_was_moved_is_asked_for(trained: Path, data: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(trained, run)
    shutil.copytree(data, moved)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "data": str(tmp_path / "gone")}))
    with pytest.raises(ArtifactError, match=r"the data of .* is not at .*gone.* any more; say where with --data"):
        evaluate_run(run)
    assert evaluate_run(run, data=moved).metrics["hr@1"] == 1.0


def test_results_of_one_run_do_not_replace_those_of_another(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    before = {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()}
    with pytest.raises(ArtifactError, match="is a run of its own"):
        evaluate_run(trained, split="valid", output=other)
    assert {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()} == before


def test_a_run_is_trained_by_one_process_at_a_time(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_run(short(), data, tmp_path / "run", progress=InterruptedAt(6))
    other = RunFolder(tmp_path / "run")
    other.hold()
    for option in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(ArtifactError, match="is being trained by another process"):
            train_run(short(), data, tmp_path / "run", **option)  # type: ignore[arg-type]
    assert other.checkpoints.is_dir()
    other.release()
    assert train_run(short(), data, tmp_path / "run", resume=True).n_steps == 8


def test_a_full_disk_keeps_the_checkpoint(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flr.training.sft.StageOneTrainer._save_checkpoint", refuse)
    with pytest.raises(StorageError, match=r"No space left on device.*--resume"):
        train_run(short(), data, tmp_path / "run")
    monkeypatch.undo()
    assert train_run(short(), data, tmp_path / "run", resume=True).n_steps == 8


def test_a_run_is_ranked_in_another_way_without_touching_its_results(trained: Path, tmp_path: Path) -> None:
    before = (trained / "metrics.json").read_text()
    beam = ["evaluation.ranking=beam", "evaluation.beam_width=10", "evaluation.cutoffs=[10]"]
    report = evaluate_run(trained, overrides=beam, output=tmp_path / "beam")
    assert json.loads((tmp_path / "beam" / "metrics.json").read_text())["test"]["ndcg@10"] == report.metrics["ndcg@10"]
    assert evaluate_run(trained, overrides=["evaluation.cutoffs=[3]"]).metrics["hr@3"] == 1.0
    assert (trained / "metrics.json").read_text() == before
    with pytest.raises(ConfigError, match=r"'text.window=3', expected evaluation.key=value"):
        evaluate_run(trained, overrides=["text.window=3"])
