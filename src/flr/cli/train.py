"""`flr train`: prepared data in, a run folder with a model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.config import Config, as_trained, describe_settings, load_config
from flr.errors import ConfigError
from flr.persistence import read_json


def _list_settings(wanted: bool) -> None:
    if wanted:
        console.show_table(("setting", "default", "meaning"), describe_settings())
        raise typer.Exit


def train(
    *,
    output: Annotated[Path | None, typer.Option(help="The run's own folder, made here.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Prepared folder, made by `flr prepare`; unset takes that of the run resumed or started from."
        ),
    ] = None,
    stage: Annotated[
        Literal["sft", "grpo"], typer.Option(help="sft: learn titles. grpo: optimise the thoughts of a trained run.")
    ] = "sft",
    source: Annotated[
        Path | None, typer.Option("--from", help="The run that stage grpo starts from; it stays as it is.")
    ] = None,
    weights_from: Annotated[
        Path | None,
        typer.Option(
            help="Take over a finished run's weights, and train only another assistant, or for another ranking."
        ),
    ] = None,
    assistant_from: Annotated[
        Path | None, typer.Option(help="Take over a finished run's assistant, of the same settings and seed.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, YAML or JSON; what is left out has defaults.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting, over the file; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random stream; over file and --set.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run to the same weights.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the stage would take, and stop; loads no weights.")
    ] = False,
    device_tflops: Annotated[
        float | None, typer.Option(help="For --estimate: dense peak of one device in 10^12 operations a second.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="For --estimate: share of that peak in use.")] = 0.35,
    as_json: AsJson = False,
    quiet: Quiet = False,
    list_settings: Annotated[
        bool,
        typer.Option("--list-settings", callback=_list_settings, is_eager=True, help="List all settings and stop."),
    ] = False,
) -> None:
    """Train a model on a prepared folder.

    The run folder receives the resolved settings, seed, versions, data hash, metrics, log, checkpoints and the model.

    \b
    Examples:
      flr train --data data/cds --output runs/cds --seed 0
      flr train --data data/cds --output runs/k1 --set reasoner.n_factors=1
      flr train --data data/cds --output runs/llm --config configs/smollm2-135m.yaml
      flr train --output runs/cds --resume
      flr train --weights-from runs/cds --output runs/cds-alone --set assistant.networks=[]
      flr train --stage grpo --from runs/cds --output runs/cds-grpo --set grpo.reward=ndcg@10
      flr train --estimate --data data/cds --config configs/paper/cds-flr.yaml --device-tflops 312
    """
    overrides = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    if estimate:
        defaults = None if source is None else _settings_of(source)
        known = _data_of(data, source)
        _estimate(load_config(config, overrides, defaults), known, stage, (device_tflops, utilisation), as_json=as_json)
        return
    if output is None:
        raise ConfigError("got no --output; name the run's own folder (--estimate alone needs none)")
    if resume and config is None and (output / "config.yaml").is_file():
        config = output / "config.yaml"
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "progress": console.progress(quiet)}
    if stage == "grpo":
        if source is None:
            raise ConfigError("--stage grpo got no --from; name the run of stage one whose thoughts it optimises")
        if weights_from is not None or assistant_from is not None:
            raise ConfigError("--stage grpo keeps the model of --from; leave out --weights-from and --assistant-from")
        resolved = load_config(config, overrides, _settings_of(source))
        from flr.experiments.policy_report import write_policy_report
        from flr.training.alignment import align_run
        from flr.training.journey import on_first_process

        summary = align_run(resolved, source, output, data=data, **options)
        on_first_process(lambda: write_policy_report(output))
    else:
        if source is not None:
            raise ConfigError(
                f"--stage sft got --from {str(source)!r}, which belongs to --stage grpo; see --weights-from"
            )
        data = _data_of(data, output if resume and (output / "run.json").exists() else weights_from)
        if data is None:
            raise ConfigError("--stage sft got no --data; name a prepared folder")
        resolved = load_config(config, overrides, None if weights_from is None else _settings_of(weights_from))
        from flr.training.run import train_run

        summary = train_run(resolved, data, output, weights_from=weights_from, assistant_from=assistant_from, **options)
    if not console.speaks():
        return
    if as_json:
        console.show_json(summary)
        return
    console.show_line(str(summary))


def _data_of(data: Path | None, run: Path | None) -> Path | None:
    """Return the data that is named, or else that of a run."""
    return data if data is not None or run is None else Path(read_json(run / "run.json", "run")["data"])


def _settings_of(run: Path) -> dict[str, Any]:
    return as_trained(read_json(run / "run.json", "run").get("config", {}))


def _estimate(
    config: Config, data: Path | None, stage: str, device: tuple[float | None, float], *, as_json: bool
) -> None:
    """Show what a stage would take."""
    if data is None:
        raise ConfigError("--estimate got no --data; name the prepared folder whose rows it counts")
    from flr.data.storage import load_prepared
    from flr.training.estimate import estimate_run

    found = estimate_run(config, load_prepared(data), stage, device_tflops=device[0], utilisation=device[1])
    if as_json:
        console.show_json(found)
        return
    rows = [(name, _readable(name, value)) for name, value in vars(found).items() if value is not None]
    console.show_table(("one device", ""), rows, title=f"{stage} of {config.backbone.source}: an estimate")


def _readable(name: str, value: object) -> str:
    """Return a number as people say it: bytes in GB, operations in TFLOP."""
    if not isinstance(value, int | float):
        return str(value)
    if name.endswith("_bytes"):
        return f"{value / 1e9:,.3f} GB"
    if name.endswith("_flops"):
        return f"{value / 1e12:,.3f} TFLOP"
    return f"{value:,.2f}" if name in {"hours", "steps_per_epoch"} else f"{value:,.0f}"
