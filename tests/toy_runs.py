"""Run folders that were never trained: a random model with all that a finished run has."""

from __future__ import annotations

from pathlib import Path

import torch

from flr.backbone.loading import compact_backbone
from flr.building import build_reasoner
from flr.catalogue.titles import build_catalogue
from flr.data.storage import load_prepared
from flr.experiments.evidence_files import Subject
from flr.model import FLRModel
from flr.persistence import write_json
from flr.recommender import Recommender
from flr.training.finished import evaluate_run
from toy import TINY, small_config, toy_tokenizer


def toy_run(folder: Path, data: Path, *overrides: str, seed: int = 0) -> Subject:
    """Write a run of a random model with its test report, and return it as a subject."""
    config = small_config(*TINY, *overrides, f"seed={seed}")
    prepared = load_prepared(data)
    catalogue = build_catalogue(prepared.items)
    torch.manual_seed(seed)
    tokenizer = toy_tokenizer(catalogue, config)
    backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    torch.nn.init.normal_(backbone.embedding.weight, std=0.5)
    Recommender(FLRModel(backbone, build_reasoner(config.reasoner, backbone)), tokenizer, catalogue, config).save(
        folder / "model"
    )
    facts = {"status": "finished", "data": str(data), "data_hash": prepared.manifest["data_hash"]}
    write_json(folder / "run.json", {**facts, "config": config.model_dump(mode="json")})
    evaluate_run(folder)
    return subject_of(folder, data, seed)


def subject_of(folder: Path, data: Path, seed: int, *, is_baseline: bool = False) -> Subject:
    return Subject(folder=folder, data=data, is_baseline=is_baseline, seed=seed, window=6, seen_items="include")
