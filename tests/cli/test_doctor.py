"""The examination finishes everywhere, and each warning names its remedy."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest
import torch

from flr.cli import doctor

from .conftest import Run


def test_every_line_is_ok_or_has_a_remedy(run: Run) -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert {"python", "torch", "transformers", "threads", "device", "bf16", "memory", "disk", "cache"} <= {
        finding["subject"] for finding in findings
    }
    assert all(finding["state"] == "ok" or finding["remedy"] for finding in findings)


def test_the_table_says_the_same(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "transformers" in result.stdout


def test_a_full_disk_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(1, 1, 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    findings = {finding["subject"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["disk"]["state"] == "warn"
    assert findings["disk"]["found"].startswith("0.0 GB free")
    assert "free some space" in findings["disk"]["remedy"]


def test_more_threads_than_cores_it_may_use_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.training.machine.usable_cores", lambda: 0)
    findings = {finding["subject"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["threads"]["state"] == "warn"


def test_of_several_gpus_it_says_how_all_are_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Made Up 100")
    findings = {finding["subject"]: finding["found"] for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["device"] == "cuda, Made Up 100; torchrun --nproc-per-node 2 -m flr train uses all 2"


def test_an_apple_gpu_is_not_said_to_be_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    findings = {finding["subject"]: finding["found"] for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["device"] == "cpu, Apple's GPU is not used"


def test_missing_extras_are_named_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert {finding.remedy for finding in doctor._extras()} == {"pip install 'flr[llm]'"}


def test_a_missing_package_is_a_warning() -> None:
    assert doctor._package("flr-does-not-exist").found == "not installed"
