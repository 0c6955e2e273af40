"""What sections of settings have in common: read from a file and overrides, their keys checked. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from flr.errors import ConfigError, nearest


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)


def read_settings(
    path: Path | None,
    overrides: Iterable[str],
    defaults: Mapping[str, Any] | None,
    *,
    meant: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Return nested settings, not checked yet: `defaults`, then the file, as it was meant, then the overrides.

    Raises:
        ConfigError: The file is missing or not a mapping, or an override is no ``section.key=value``.
    """
    settings: dict[str, Any] = json.loads(json.dumps(defaults or {}))
    if path is not None:
        _merge(settings, meant(_read_mapping(path)))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"cannot read the override {override!r}; expected section.key=value")
        _merge(settings, _nested(key.strip().split("."), _value(value)))
    return settings


def checked(section: type[S], settings: Mapping[str, Any]) -> S:
    """Return a section with its settings.

    Raises:
        ConfigError: A key is unknown (the nearest is named), or a value is out of range.
    """
    _check_keys(settings, section, "")
    try:
        return section.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem) for problem in error.errors())) from error


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {str(path)!r}; `flr train --help` shows one") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the config file {str(path)!r}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"the config file {str(path)!r} holds a {type(content).__name__}, expected sections with keys"
        )
    return content


def _merge(into: dict[str, Any], update: Mapping[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _value(text: str) -> Any:
    """Return what an override's text means: YAML in one line, or the text itself (`Items so far:` is no mapping)."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if isinstance(value, dict) and not text.lstrip().startswith("{") else value


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def _check_keys(settings: Mapping[str, Any], section: type[BaseModel], prefix: str) -> None:
    for key, value in settings.items():
        if key not in section.model_fields:
            raise ConfigError(f"unknown setting {prefix + str(key)!r}: {nearest(str(key), section.model_fields)}")
        annotation = section.model_fields[key].annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix + str(key)!r} is a section with keys, got {value!r}")
            _check_keys(value, annotation, f"{prefix}{key}.")


def _describe(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"{place} = {problem['input']!r}: {problem['msg']}"
