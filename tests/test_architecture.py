"""The room plan is kept: imports point one way, stations stay apart, and only the command line prints."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

import flr

ROOT = Path(flr.__file__).parent
LEVELS = (
    {"devices", "errors", "records", "seeding", "progress", "persistence", "fetching", "blocks", "transitions"}
    | {"arguments", "config", "prepare_config", "sections"},
    {"data", "catalogue", "text", "backbone", "reasoner", "scoring", "sequential"},
    {
        "building",
        "bulk",
        "compiled",
        "lists",
        "live",
        "model",
        "recommender",
        "saving",
        "snapshot",
        "steering",
        "thoughts",
    },
    {"training", "evaluation", "baselines", "diagnostics", "explanation", "experiments"},
    {"serving", "calls", "client", "cli", "__main__"},
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
STATIONS = LEVELS[1]
#: Never, and not at load time.
WITHOUT_TORCH = {"data", "catalogue"}
FAST_TO_LOAD = {"cli", "calls", "client", *LEVELS[0]}
_STREAMS = ("sys.stdout.", "sys.stderr.")
HEAVY = {"torch", "transformers", "accelerate", "peft", "safetensors"}


def modules(root: Path = ROOT) -> dict[str, str]:
    """Return dotted module name below the package -> source."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path.read_text(encoding="utf-8")
    return found


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return one sentence per broken rule."""
    found = [sentence for name, source in sources.items() for sentence in _rules(name, ast.parse(source))]
    return found + [f"cycle: {' -> '.join(cycle)}" for cycle in _cycles(sources)]


def _rules(name: str, tree: ast.Module) -> list[str]:
    room = name.split(".", maxsplit=1)[0]
    if room not in LEVEL_OF:
        return [f"{name}: room {room!r} is not in the plan"]
    found = []
    for node, target, lazy in _imports(tree):
        top, _, inside = target.partition(".")
        where = f"{name}:{node.lineno}"
        if not top:
            found.append(f"{where}: relative import; write the full name")
        elif top == "pickle":
            found.append(f"{where}: pickle is not a format here")
        elif top in HEAVY and (room in WITHOUT_TORCH or (room in FAST_TO_LOAD and not lazy)):
            found.append(f"{where}: {room} loads {top}")
        elif top == "rich" and room != "cli":
            found.append(f"{where}: rich outside cli/")
        elif top == "flr":
            found += [f"{where}: {sentence}" for sentence in _direction(room, inside)]
    return found + [f"{name}:{node.lineno}: {what}" for node, what in _calls(tree, room)]


def _direction(room: str, target: str) -> list[str]:
    other = target.split(".", maxsplit=1)[0]
    if target == "__version__" and LEVEL_OF[room] >= 3:
        return []
    if other not in LEVEL_OF:
        return [f"imports {target or 'the package root'!r}, which is no room of the plan"]
    if room in STATIONS and other in STATIONS and room != other:
        return [f"station {room} imports station {other}"]
    if LEVEL_OF[other] > LEVEL_OF[room]:
        return [f"{room} (level {LEVEL_OF[room]}) imports {other} (level {LEVEL_OF[other]})"]
    return []


def _imports(tree: ast.Module) -> list[tuple[ast.stmt, str, bool]]:
    """Return every import that runs: statement, dotted target, and whether it waits inside a function."""
    for_types = {inner for node in ast.walk(tree) if _is_type_checking(node) for inner in _body(node)}
    lazy = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    found: list[tuple[ast.stmt, str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            targets = [f"{module}.{alias.name}" for alias in node.names] if module == "flr" else [module]
        else:
            continue
        # An import for type checkers only does not load anything, but still has to point the right way.
        found += [(node, target, node in lazy) for target in targets if node not in for_types or target[:3] == "flr"]
    return found


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _body(node: ast.AST) -> set[ast.AST]:
    return {inner for statement in getattr(node, "body", []) for inner in ast.walk(statement)}


def _calls(tree: ast.Module, room: str) -> list[tuple[ast.Call, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in {"eval", "exec"}:
                found.append((node, f"{node.func.id}() runs data as code"))
            elif node.func.id == "print":
                found.append((node, "print(); results go through cli/console.py"))
        elif room != "cli" and isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_STREAMS):
            found.append((node, "writes to the terminal outside cli/"))
    return found


def _cycles(sources: Mapping[str, str]) -> list[list[str]]:
    """Return the cycles among modules, counting imports at load time only."""
    edges = {
        name: {
            known
            for _, target, lazy in _imports(ast.parse(source))
            if not lazy
            for known in [_known(target, sources)]
            if known and known != name
        }
        for name, source in sources.items()
    }
    finished: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in finished:
            for target in sorted(edges[name]):
                visit(target, [*path, name])
            finished.add(name)

    for name in edges:
        visit(name, [])
    return found


def _known(target: str, sources: Mapping[str, str]) -> str | None:
    name = target.removeprefix("flr.")
    return name if target.startswith("flr.") and name in sources else None


def test_the_package_keeps_its_plan() -> None:
    assert violations(modules()) == []


BROKEN = {
    "upwards": ({"data.reading": "from flr.model import FLRModel"}, "data (level 1) imports model (level 2)"),
    "upwards, for types": (
        {"config": "if TYPE_CHECKING:\n    from flr.data.storage import load"},
        "config (level 0) imports data (level 1)",
    ),
    "upwards, lazily": ({"model": "def f():\n    import flr.cli.main"}, "model (level 2) imports cli (level 4)"),
    "station to station": ({"text.packing": "import flr.catalogue.trie"}, "station text imports station catalogue"),
    "package root": ({"training.sft": "import flr"}, "imports 'the package root'"),
    "public name of the root": ({"training.sft": "from flr import Recommender"}, "imports 'Recommender'"),
    "unknown room": ({"utils.strings": ""}, "room 'utils' is not in the plan"),
    "import of an unknown room": ({"training.sft": "from flr.helpers import x"}, "imports 'helpers'"),
    "relative": ({"training.sft": "from ..cli import console"}, "relative import"),
    "print": ({"training.sft": "print(1)"}, "print()"),
    "print in the command line": ({"cli.train": "print(1)"}, "print()"),
    "stdout": ({"training.sft": "import sys\nsys.stdout.write('x')"}, "writes to the terminal"),
    "rich": ({"experiments.demo": "from rich.table import Table"}, "rich outside cli/"),
    "torch in data": ({"data.storage": "import torch"}, "data loads torch"),
    "torch in catalogue, lazily": ({"catalogue.trie": "def f():\n    import torch.nn"}, "catalogue loads torch"),
    "torch at start-up": ({"cli.doctor": "import torch"}, "cli loads torch"),
    "pickle": ({"scoring.exact": "import pickle"}, "pickle"),
    "eval": ({"data.readers.lcrec": "eval('1')"}, "eval() runs data as code"),
    "cycle": (
        {"data.a": "import flr.data.b", "data.b": "from flr.data.a import x"},
        "cycle: data.a -> data.b -> data.a",
    ),
}


@pytest.mark.parametrize(("sources", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_rule_is_found(sources: dict[str, str], sentence: str) -> None:
    found = violations(sources)
    assert any(sentence in one for one in found), found


@pytest.mark.parametrize(
    "sources",
    [
        {"records": "if TYPE_CHECKING:\n    import torch"},
        {"model": "from flr.reasoner.factors import MultiFactorAttention\nimport torch"},
        {"cli.train": "def train():\n    from flr.training.run import train_run\n    import torch"},
        {"cli.main": "from flr import __version__"},
        {"data.readers.csv": "import re\nre.compile('x').fullmatch('y')", "data": "from flr.data.readers import csv"},
    ],
)
def test_what_the_plan_allows_passes(sources: dict[str, str]) -> None:
    assert violations(sources) == []
