"""Folders written by ``save_to_disk`` of Hugging Face `datasets` -> tables, without that library.

A data set is a folder with ``state.json``, which lists Arrow IPC stream files in their order. A dictionary of data
sets is a folder with ``dataset_dict.json`` and one such folder per part; the part becomes the column `split`, where
``validation`` is called ``valid``. Columns are found by their names, as in a CSV file.

Source: https://huggingface.co/docs/datasets/about_arrow
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.data.readers.formats import RawTable, about_files
from flr.errors import ColumnError, ReadError, nearest
from flr.prepare_config import PrepareConfig
from flr.records import SPLIT, SPLITS

_STATE: Final = "state.json"
_PARTS: Final = "dataset_dict.json"
#: The last bytes of every complete Arrow stream.
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
#: What Hugging Face calls the parts -> what they are called here.
_PART_NAMES: Final = {"validation": "valid", "val": "valid", "dev": "valid"}


def recognises(path: Path) -> bool:
    """Return whether a folder is one that ``save_to_disk`` wrote."""
    return (path / _STATE).is_file() or (path / _PARTS).is_file()


def recognises_items(path: Path) -> bool:
    """Return whether a folder is one that ``save_to_disk`` wrote."""
    return recognises(path)


def items_beside(path: Path) -> Path | None:
    """Return None: such a folder names no other."""
    return None


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the rows of all files in the order that the folder states.

    Raises:
        ReadError: A file is missing or damaged, the rows are a selection by indices, or parts are not named
            train, validation and test though the given split needs their names.
        ColumnError: The parts have different columns.
    """
    if (path / _STATE).is_file():
        frame, files = _data_set(path)
        return RawTable(frame, about_files(path, "hugging face", files))
    parts = _names(path)
    frames, files = [], []
    for part in parts:
        frame, read = _data_set(path / part)
        label = _PART_NAMES.get(part, part)
        if settings.split == "given" and SPLIT not in frame.columns and label not in SPLITS:
            raise ReadError(f"{str(path)!r} has a part {part!r}; {nearest(label, SPLITS)}; rename it, or split anew")
        frames.append(frame if SPLIT in frame.columns else frame.with_columns(pl.lit(label).alias(SPLIT)))
        files += read
    return RawTable(_together(frames, parts, path), about_files(path, "hugging face", files) | {"parts": parts})


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the rows of all files, without a column for their part.

    Raises:
        ReadError: A file is missing or damaged, or the rows are a selection by indices.
        ColumnError: The parts have different columns.
    """
    parts = [] if (path / _STATE).is_file() else _names(path)
    read = [_data_set(path / part) for part in parts] if parts else [_data_set(path)]
    files = [file for _, some in read for file in some]
    return RawTable(_together([frame for frame, _ in read], parts, path), about_files(path, "hugging face", files))


def _names(path: Path) -> list[str]:
    names = _read_json(path / _PARTS).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ReadError(
            f"{str(path / _PARTS)!r} has splits {names!r}; expected a list of names; save the data set anew"
        )
    return names


def _together(frames: list[pl.DataFrame], parts: list[str], path: Path) -> pl.DataFrame:
    for part, frame in zip(parts[1:], frames[1:], strict=True):
        if frame.columns != frames[0].columns:
            raise ColumnError(
                f"part {part!r} of {str(path)!r} has the columns {', '.join(frame.columns)}; expected those of "
                f"{parts[0]!r}: {', '.join(frames[0].columns)}; save them with the same features"
            )
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise ReadError(f"the parts of {str(path)!r} have different types ({error}); save them with one") from error


def _data_set(folder: Path) -> tuple[pl.DataFrame, list[Path]]:
    state = _read_json(folder / _STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ReadError(
            f"{str(folder)!r} is a selection of rows by indices, which an old version of datasets wrote; "
            "expected the rows themselves; call flatten_indices() before save_to_disk()"
        )
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "filename" in one for one in listed):
        raise ReadError(f"{str(folder / _STATE)!r} has _data_files {listed!r}; expected file names; save it anew")
    files = [folder / str(one["filename"]) for one in listed]
    if not files:
        raise ReadError(f"{str(folder / _STATE)!r} lists no data files; expected at least one; save it anew")
    try:
        return pl.concat([_read_stream(file) for file in files], how="vertical_relaxed"), files
    except pl.exceptions.PolarsError as error:
        raise ReadError(f"the files of {str(folder)!r} have different columns ({error}); save it anew") from error


def _read_stream(file: Path) -> pl.DataFrame:
    if not file.is_file():
        raise ReadError(f"{str(file)!r} does not exist; its {_STATE} lists it; fetch the whole folder")
    with file.open("rb") as stream:
        stream.seek(-min(len(_END), file.stat().st_size), os.SEEK_END)
        if stream.read() != _END:
            # Readers take the end of the file for the end of the stream, and whole batches would be lost unnoticed.
            raise ReadError(f"{str(file)!r} is cut off: it has no end-of-stream mark; fetch it again")
    try:
        return pl.read_ipc_stream(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ReadError(f"cannot read {str(file)!r} as an Arrow stream: {reason}; fetch it again") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(f"cannot read {str(file)!r} ({error}); expected what save_to_disk writes") from error
    if not isinstance(value, dict):
        raise ReadError(f"{str(file)!r} holds {value!r}; expected what save_to_disk writes, an object")
    return value
