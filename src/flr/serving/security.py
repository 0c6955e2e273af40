"""API keys: made once and shown once; a file holds their hashes. Rates are limited by token buckets."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flr.errors import ConfigError, ReadError
from flr.persistence import write_json

Scope = Literal["read", "admin"]
#: Clients whose buckets are remembered.
_MOST_CLIENTS = 10_000
_FORMAT = 1


@dataclass(frozen=True)
class Key:
    """What a file says of a key; the secret has 256 random bits, so a plain hash cannot be guessed back.

    Attributes:
        key_id: Names it in logs and in the file.
        scope: ``"admin"`` may also edit the catalogue.
        sha256: Of the whole key.
    """

    key_id: str
    scope: Scope
    sha256: str


def new_key(path: Path, scope: Scope) -> str:
    """Make a key, add its hash to a file that only its owner may read, and return the key itself.

    Raises:
        ReadError: The file is there and is no file of keys.
        ConfigError: It is there and holds no key.
    """
    key_id = secrets.token_hex(4)
    key = f"flr_{key_id}_{secrets.token_urlsafe(32)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file itself is replaced, so another one is locked: keys that are made at once are all kept.
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(load_keys(path).values()) if path.exists() else []
        keys.append(Key(key_id, scope, hashlib.sha256(key.encode()).hexdigest()))
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        mode = path.stat().st_mode & 0o777
        write_json(path, {"format_version": _FORMAT, "keys": [vars(one) for one in keys]})
        path.chmod(mode)
    return key


def load_keys(path: Path) -> dict[str, Key]:
    """Return the keys of a file by their ids.

    Raises:
        ReadError: The file is missing or holds something else.
        ConfigError: It holds no key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        keys = [Key(str(one["key_id"]), one["scope"], str(one["sha256"])) for one in content["keys"]]
    except FileNotFoundError:
        raise ReadError(f"there is no file of keys {str(path)!r}; make one with `flr key --file {path}`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{str(path)!r} is no file of keys ({error}); make a new one with `flr key`") from error
    for key in keys:
        if key.scope not in get_args(Scope):
            raise ReadError(f"{str(path)!r}: key {key.key_id!r} has scope {key.scope!r}, expected read or admin")
    if not keys:
        raise ConfigError(f"{str(path)!r} holds no key; make one with `flr key --file {path}`")
    return {key.key_id: key for key in keys}


def find_key(keys: dict[str, Key], given: str) -> Key | None:
    """Return the key that was given, or None; how long it takes says nothing about the secret."""
    parts = given.split("_", 2)
    key = keys.get(parts[1]) if len(parts) == 3 else None
    found = hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()
    return key if hmac.compare_digest(found, key.sha256 if key else "0" * 64) else None


class RateLimit:
    """A token bucket per client; the longest unseen are forgotten first.

    Args:
        per_second: Requests that a client may make in the long run; 0 sets no limit.
        burst: Requests it may make at once.
        clock: Seconds that only rise.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.burst, self._clock = per_second, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, client: str) -> float:
        """Take a token for a client; return 0, or the seconds until there will be one."""
        if not self.per_second:
            return 0.0
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - then) * self.per_second)
        taken = tokens >= 1
        self._buckets[client] = (tokens - 1 if taken else tokens, now)
        while len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self.per_second
