"""A prepared folder: Parquet tables, an audit and a manifest, written whole or not at all, checked when read.

======================  =====================================================================
interactions.parquet    user_index, item_index, timestamp, split; by user, then in their order
users.parquet           user_index, user_id, n_interactions
items.parquet           item_index, item_id, title (raw), attributes
audit.json              what `flr.data.auditing` found
manifest.json           versions, settings, source, counts, SHA-256 of the files, data hash
======================  =====================================================================
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from flr.data.preparation import SCHEMA_VERSION
from flr.data.withholding import without_cold
from flr.errors import ArtifactError
from flr.persistence import file_sha256, new_folder, read_json, write_json
from flr.records import (
    ITEM_ID,
    ITEM_INDEX,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    TITLE,
    USER_ID,
    USER_INDEX,
    PreparedData,
    UserSequences,
)

MANIFEST: Final = "manifest.json"
AUDIT: Final = "audit.json"
INTERACTIONS: Final = "interactions.parquet"
USERS: Final = "users.parquet"
ITEMS: Final = "items.parquet"
#: The files that `data_hash` covers.
TABLES: Final = (INTERACTIONS, USERS, ITEMS)
_LABELS: Final = pl.Enum(SPLITS)
_N_INTERACTIONS: Final = "n_interactions"


def save_prepared(data: PreparedData, path: Path, *, overwrite: bool = False) -> PreparedData:
    """Write a prepared folder in one step.

    Args:
        data: What `flr.data.preparation.prepare` returned.
        path: The folder to make.
        overwrite: Replace an existing prepared folder; other folders, and ones that hold anything else, never are.

    Returns:
        `data` with the hashes in its manifest, as `load_prepared` would return it.

    Raises:
        ArtifactError: The folder exists and may not be replaced, or holds a file that the data were read from.
        StorageError: The disk refused a write; what was there before is untouched.
    """
    manifest = {key: value for key, value in data.manifest.items() if key not in ("audit", "files", "data_hash")}
    if overwrite:
        _check_inputs(data.manifest.get("source", {}), Path(path))
    known = {*TABLES, AUDIT, MANIFEST}
    with new_folder(Path(path), overwrite=overwrite, marker=MANIFEST, known=known) as folder:
        _interactions_frame(data.sequences).write_parquet(folder / INTERACTIONS)
        _users_frame(data.sequences).write_parquet(folder / USERS)
        _items_frame(data.items).write_parquet(folder / ITEMS)
        write_json(folder / AUDIT, data.manifest["audit"])
        hashes = {name: file_sha256(folder / name) for name in (*TABLES, AUDIT)}
        manifest |= {"files": hashes, "data_hash": _data_hash(hashes)}
        write_json(folder / MANIFEST, manifest)
    return PreparedData(data.sequences, data.items, {**manifest, "audit": data.manifest["audit"]})


def load_prepared(path: Path, *, with_cold: bool = False) -> PreparedData:
    """Return a prepared folder, after checking that it is whole.

    Args:
        path: The folder.
        with_cold: Also return the items that were withheld from training, and their test rows.

    Raises:
        ArtifactError: The folder or one of its files is missing, was changed since it was written, or is of
            another schema version.
    """
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(f"there is no prepared folder {str(path)!r}; make it with `flr prepare --output {path}`")
    manifest = read_json(path / MANIFEST, "manifest of the prepared folder")
    _check(path, manifest)
    manifest["audit"] = read_json(path / AUDIT, "audit of the prepared folder")
    try:
        rows, users, items = (pl.read_parquet(path / name) for name in TABLES)
        counts = users[_N_INTERACTIONS].to_numpy()
        sequences = UserSequences(
            user_ids=users[USER_ID].to_numpy(),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            item_index=rows[ITEM_INDEX].to_numpy(),
            timestamps=rows[TIMESTAMP].to_numpy(),
            split=rows[SPLIT].to_physical().cast(pl.Int8).to_numpy(),
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _broken(path, str(error).splitlines()[0]) from error
    prepared = PreparedData(sequences, items.drop(ITEM_INDEX), manifest)
    if with_cold or not prepared.n_cold:
        return prepared
    n_warm = len(items) - prepared.n_cold
    return PreparedData(without_cold(sequences, n_warm), prepared.items[:n_warm], manifest)


def _check_inputs(source: dict[str, Any], path: Path) -> None:
    for table in ("interactions", "items"):
        read = (source.get(table) or {}).get("path")
        if read is not None and Path(read).exists() and Path(read).resolve().is_relative_to(path.resolve()):
            raise ArtifactError(
                f"{str(path)!r} holds {read!r}, which the data were read from and which would be lost; "
                "name another folder"
            )


def _check(path: Path, manifest: dict[str, Any]) -> None:
    found = manifest.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ArtifactError(
            f"the prepared folder {str(path)!r} has schema version {found!r} (flr {manifest.get('flr_version')}), "
            f"this flr reads version {SCHEMA_VERSION}; prepare it again from the raw files"
        )
    hashes = manifest.get("files")
    if not isinstance(hashes, dict) or set(hashes) != {*TABLES, AUDIT}:
        raise _broken(path, f"{MANIFEST} does not list its files")
    for name, expected in hashes.items():
        if not (path / name).is_file():
            raise _broken(path, f"{name} is missing")
        got = file_sha256(path / name)
        if got != expected:
            raise _broken(path, f"{name} has SHA-256 {got[:12]}..., the manifest says {str(expected)[:12]}...")
    if manifest.get("data_hash") != _data_hash(hashes):
        raise _broken(path, f"the data hash in {MANIFEST} is not that of its files")


def _broken(path: Path, what: str) -> ArtifactError:
    return ArtifactError(f"the prepared folder {str(path)!r} is damaged: {what}; prepare it again from the raw files")


def _data_hash(hashes: dict[str, str]) -> str:
    lines = "".join(f"{hashes[name]}  {name}\n" for name in TABLES)
    return hashlib.sha256(lines.encode()).hexdigest()


def _interactions_frame(sequences: UserSequences) -> pl.DataFrame:
    users = np.repeat(np.arange(sequences.n_users, dtype=np.int32), np.diff(sequences.offsets))
    return pl.DataFrame(
        {
            USER_INDEX: users,
            ITEM_INDEX: sequences.item_index,
            TIMESTAMP: sequences.timestamps,
            SPLIT: pl.Series(sequences.split).cast(pl.UInt8).cat.to(_LABELS),
        }
    )


def _users_frame(sequences: UserSequences) -> pl.DataFrame:
    return pl.DataFrame(
        {
            USER_INDEX: np.arange(sequences.n_users, dtype=np.int32),
            USER_ID: pl.Series(sequences.user_ids.tolist(), dtype=pl.String),
            _N_INTERACTIONS: np.diff(sequences.offsets),
        }
    )


def _items_frame(items: pl.DataFrame) -> pl.DataFrame:
    attributes = [name for name in items.columns if name not in (ITEM_INDEX, ITEM_ID, TITLE)]
    index = pl.int_range(len(items), dtype=pl.Int32, eager=True).alias(ITEM_INDEX)
    return pl.DataFrame([index, *items.select(ITEM_ID, TITLE, *attributes)])
