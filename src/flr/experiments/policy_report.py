"""The report page of stage two: which stage won, and what the flight recorder saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from flr.errors import ArtifactError
from flr.experiments.charts import Panel, line_panel
from flr.experiments.report import template
from flr.persistence import read_json, write_text

PAGE: Final = "policy.html"
#: Logged name, title, what to look for, decimals.
_PANELS: Final = (
    ("eval_ndcg@10", "Validation NDCG@10", "Step 0 is stage one; the guard keeps the best.", 4),
    ("reward", "Reward of all thoughts", "What the policy is rewarded for, on training targets.", 4),
    ("gain_of_noise", "Noised minus noiseless reward", "Above 0, noise finds better thoughts than the policy's.", 5),
    (
        "reward_spread",
        "Spread of the reward within a group",
        "Near 0, the thought hardly matters or sigma is small.",
        5,
    ),
    ("zero_advantage", "Share of groups without advantage", "Groups whose thoughts all earned the same.", 2),
    ("kl", "Divergence from stage one", "In nats; how far the policy has moved.", 3),
    ("clip_share", "Share of clipped ratios", "Always 0 with one update per rollout.", 3),
    ("thought_norm", "RMS of the thought, in RMS of input embeddings", "A jump or a fall announces a collapse.", 2),
    ("effective_rank", "Effective rank of the thoughts", "1 means one thought for everybody.", 1),
    ("learning_rate", "Learning rate", "A cosine to zero, halved at each roll-back.", 6),
)


def write_policy_report(run: Path) -> Path:
    """Write ``policy.html`` into the folder of a finished run of stage two, and return its path.

    Raises:
        ArtifactError: The run is missing, unfinished or of stage one.
        StorageError: The disk refused the write.
    """
    facts = read_json(run / "run.json", "run")
    if facts.get("stage") != "grpo" or facts.get("status") != "finished":
        raise ArtifactError(
            f"{str(run)!r} is {facts.get('status')!r} and of stage {facts.get('stage')!r}, expected a finished run of "
            "stage 'grpo'"
        )
    path = run / PAGE
    write_text(path, _page(run, facts))
    return path


def _page(run: Path, facts: dict[str, Any]) -> str:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{"step": 0, "eval_ndcg@10": facts["stage_one"]["ndcg@10"]}, *map(_with_gain, lines)]
    valid = read_json(run / "metrics.json", "metrics")["valid"]
    about = {
        "stage one": Path(facts["from"]).name,
        "steps": facts["n_steps"],
        "training": f"{facts['train_seconds']:.0f} s",
        "weights trained": facts["n_trained_parameters"],
        "seed": facts["seed"],
        "data hash": facts["data_hash"][:16],
        **{name: str(number) for name, number in facts["versions"].items()},
    }
    return template("policy.html.j2").render(
        name=run.name,
        summary=_summary(facts, valid),
        kept_step=facts["best_step"],
        panels=list(_panels(lines, facts["best_step"])),
        settings={name: str(value) for name, value in facts["config"]["grpo"].items()},
        facts=about,
    )


def _with_gain(line: dict[str, float]) -> dict[str, float]:
    if "reward_noised" not in line:
        return line
    return {**line, "gain_of_noise": line["reward_noised"] - line["reward_noiseless"]}


def _summary(facts: dict[str, Any], valid: dict[str, float]) -> list[str]:
    before, after = facts["stage_one"]["ndcg@10"], valid["ndcg@10"]
    if facts["winner"] == "sft":
        return [f"Stage one wins: no step of stage two was above its NDCG@10 of {before:.4f}; its weights were kept."]
    return [
        f"Stage two wins: NDCG@10 on validation went from {before:.4f} to {after:.4f} at step {facts['best_step']}.",
        "The step was chosen on the same users, so only a test on others can say whether the gain is real.",
    ]


def _panels(lines: list[dict[str, float]], kept_step: int) -> list[dict[str, str | Markup]]:
    last = max(line["step"] for line in lines)
    found = []
    for name, title, meaning, digits in _PANELS:
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps, values = [step for step, _ in points], [value for _, value in points]
        panel = Panel(title, steps, values, dots=True, marked_step=kept_step, height=70, digits=digits)
        found.append({"meaning": meaning, "drawing": line_panel(panel, last_step=last, step_axis=True)})
    return found
