"""A recommender on disk: safetensors, JSON and Parquet, whole or not at all.

========================  ==========================================================================
recommender.json          layout, settings, architecture, items, retired ones, how attributes are parted, hashes
model.safetensors         weights of the backbone (adapters merged in), the reasoner, the memory and the assistant
memory.safetensors        the counts that a memory looks up, where the model has one
tokenizer.json            the tokenizer with its prompts
items.parquet             item_id, title and attributes, in the order of item indices
========================  ==========================================================================
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flr.backbone.loading import architecture, empty_backbone, merge_lora
from flr.building import build_memory, build_reasoner
from flr.catalogue.titles import build_catalogue
from flr.config import Config, parse_saved
from flr.devices import default_device
from flr.errors import ArtifactError
from flr.model import FLRModel
from flr.persistence import file_sha256, new_folder, read_json, write_json
from flr.reasoner.memory import ItemMemory
from flr.records import ITEM_ID, TITLE, BoolArray, Catalogue
from flr.sequential.assistant import build_assistant
from flr.text.tokenizer import TitleTokenizer
from flr.transitions import Transitions

#: Layout of a saved recommender; raised when older folders become unreadable.
FORMAT_VERSION = 1
_META, _WEIGHTS, _TOKENIZER, _ITEMS = "recommender.json", "model.safetensors", "tokenizer.json", "items.parquet"
_MEMORY = "memory.safetensors"
_META_KEYS = ("config", "architecture", "tied", "n_items")


@dataclass(frozen=True)
class SavedParts:
    """What a recommender is made of."""

    model: FLRModel
    tokenizer: TitleTokenizer
    catalogue: Catalogue
    config: Config


def save_parts(parts: SavedParts, path: Path, *, overwrite: bool) -> None:
    """Write a folder; see `flr.Recommender.save` for what is raised."""
    model, catalogue = parts.model, parts.catalogue
    _check_own_parts(model, parts.config)
    weights = {f"backbone.{name}": tensor for name, tensor in merge_lora(model.backbone).items()}
    if model.reasoner is not None:
        weights |= {f"reasoner.{name}": tensor for name, tensor in model.reasoner.state_dict().items()}
    if model.memory is not None:
        weights |= {f"memory.{name}": tensor for name, tensor in model.memory.state_dict().items()}
    if model.assistant is not None:
        weights |= {f"assistant.{name}": tensor for name, tensor in model.assistant.state_dict().items()}
    meta = {
        "format_version": FORMAT_VERSION,
        "config": parts.config.model_dump(mode="json"),
        "architecture": architecture(model.backbone),
        "tied": model.backbone.output is None,
        "n_items": catalogue.n_items,
        "assisted": model.assistant is not None,
        "retired": [] if catalogue.retired is None else np.flatnonzero(catalogue.retired).tolist(),
        **({} if catalogue.barred is None else {"barred": sorted(catalogue.barred)}),
    }
    with new_folder(path, overwrite=overwrite) as folder:
        save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, folder / _WEIGHTS)
        if model.memory is not None:
            save_file(model.memory.transitions.tables(), folder / _MEMORY)
        write_json(folder / _TOKENIZER, parts.tokenizer.to_json())
        _items_frame(catalogue).write_parquet(folder / _ITEMS)
        hashes = {name: file_sha256(folder / name) for name in (_WEIGHTS, _MEMORY) if (folder / name).exists()}
        write_json(folder / _META, meta | {"hashes": hashes})


def _check_own_parts(model: FLRModel, config: Config) -> None:
    """Check that what is loaded will be what is saved: a reasoner as the settings describe it, and a stock memory."""
    with torch.device("meta"):
        described = build_reasoner(config.reasoner, model.backbone, embedding_rms=1.0)
    of_memory = type(None) if model.memory is None else ItemMemory
    for own, kind in ((model.reasoner, type(described)), (model.memory, of_memory)):
        if type(own) is not kind:
            raise ArtifactError(
                f"the model has a {type(own).__name__} where a {kind.__name__} would be loaded by these settings; "
                "name a reasoner of your own by flr.register_reasoner and reasoner.kind"
            )
    for key, value in vars(described).items() if described is not None else ():
        if isinstance(value, bool | int | float | str) and key != "training" and getattr(model.reasoner, key) != value:
            raise ArtifactError(
                f"the reasoner has {key} = {getattr(model.reasoner, key)!r} where {value!r} would be loaded by these "
                "settings; save it with settings that fit"
            )


def load_parts(path: Path, device: str | torch.device | None) -> SavedParts:
    """Return what `save_parts` wrote; see `flr.Recommender.load` for arguments and what is raised."""
    folder = saved_folder(path)
    meta = read_json(folder / _META, "saved recommender")
    if meta.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{str(folder)!r} has format version {meta.get('format_version')!r}, this flr reads {FORMAT_VERSION}; "
            "train again, or install the flr that wrote it"
        )
    if missing := [name for name in _META_KEYS if name not in meta]:
        raise ArtifactError(f"{str(folder / _META)!r} lacks {missing[0]!r}, so it is damaged; train again")
    config = parse_saved(meta["config"])
    tokenizer = TitleTokenizer.from_json(read_json(folder / _TOKENIZER, "tokenizer"))
    catalogue = build_catalogue(_read_items(folder / _ITEMS, meta), _retired(folder, meta))
    if "barred" in meta:
        catalogue = replace(catalogue, barred=frozenset(map(str, meta["barred"])))
    transitions = _read_transitions(folder / _MEMORY) if config.reasoner.has_memory else None
    model = _build(meta, config, transitions)
    _load_weights(model, folder / _WEIGHTS)
    for name, expected in meta.get("hashes", {}).items():  # folders saved before have none
        if file_sha256(folder / name) != expected:
            raise ArtifactError(f"{str(folder / name)!r} is not as it was saved, so it is damaged; train again")
    return SavedParts(model.to(default_device() if device is None else device), tokenizer, catalogue, config)


def saved_folder(path: Path) -> Path:
    """Return the folder of a saved recommender: a run's is below it."""
    below = path / "model"
    return below if not (path / _META).exists() and (below / _META).exists() else path


def saved_hash(path: Path) -> str:
    """Return the SHA-256 of all that a saved recommender is made of, in hexadecimal."""
    folder = saved_folder(path)
    known = read_json(folder / _META, "saved recommender").get("hashes", {})  # of large files, part of the first one
    files = [folder / name for name in (_META, _TOKENIZER, _ITEMS, _WEIGHTS, _MEMORY) if name not in known]
    hashes = "".join(file_sha256(file) for file in files if file.exists())
    return hashlib.sha256(hashes.encode()).hexdigest()


def _items_frame(catalogue: Catalogue) -> pl.DataFrame:
    frame = pl.DataFrame({ITEM_ID: list(catalogue.item_ids), TITLE: list(catalogue.titles)})
    if catalogue.attributes is None:
        return frame
    return frame.hstack(catalogue.attributes.drop(ITEM_ID, TITLE, strict=False))


def _read_items(path: Path, meta: dict[str, Any]) -> pl.DataFrame:
    try:
        items = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read ({error}); train the model again") from error
    if len(items) != meta["n_items"]:
        raise ArtifactError(
            f"{str(path)!r} holds {len(items)} items, expected {meta['n_items']}; train the model again"
        )
    return items


def _retired(folder: Path, meta: dict[str, Any]) -> BoolArray:
    """Return which items are retired; folders from before items could be removed have none."""
    retired, saved = np.zeros(meta["n_items"], dtype=bool), meta.get("retired", [])
    try:
        retired[np.array(saved, dtype=np.int64)] = True
    except (IndexError, TypeError, ValueError):
        raise ArtifactError(
            f"{str(folder / _META)!r} lists {saved!r} as retired, expected indices below {meta['n_items']}; "
            "it is damaged, save the recommender again"
        ) from None
    return retired


def _read_transitions(path: Path) -> Transitions:
    tables = _read_tensors(path)
    try:
        return Transitions.from_tables(tables)
    except KeyError as error:
        raise ArtifactError(f"{str(path)!r} lacks {error}, so it is damaged; train again") from None


def _build(meta: dict[str, Any], config: Config, transitions: Transitions | None) -> FLRModel:
    """Return a model of the saved one's shapes, whose weights are to be assigned."""
    backbone = empty_backbone(meta["architecture"], tied=meta["tied"])
    memory = build_memory(config.reasoner, backbone, transitions)
    assistant = None
    if transitions is not None and meta.get("assisted", False):  # older folders, and what is not trained, have none
        assistant = build_assistant(config.assistant, transitions.n_items, config.text.window)
    return FLRModel(backbone, build_reasoner(config.reasoner, backbone, embedding_rms=1.0), memory, assistant)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read ({error}); it is missing or was cut short") from error
    return tensors


def _load_weights(model: FLRModel, path: Path) -> None:
    weights = {
        # An assistant had one network at first, and one weight.
        name.replace("assistant.network.", "assistant.networks.0."): of
        for name, of in _read_tensors(path).items()
    }
    if "assistant.weight" in weights:
        weights["assistant.weights"] = weights.pop("assistant.weight")[None]
    of_backbone = {name for name in weights if name.startswith("backbone.")}
    # Float32 where LoRA matrices were folded into some weights beside others in bfloat16.
    dtype = functools.reduce(torch.promote_types, (weights[name].dtype for name in of_backbone), torch.bfloat16)
    # Copies: what safetensors gives are views of the file, which somebody may replace.
    own = {name: of.to(dtype if name in of_backbone else of.dtype, copy=True) for name, of in weights.items()}
    try:
        model.load_state_dict(own, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{str(path)!r} does not fit the model that recommender.json describes: {first}") from error
