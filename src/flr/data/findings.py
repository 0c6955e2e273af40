"""What an audit finds, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

N_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One property of the data that can mislead a metric.

    Attributes:
        name: Short name, for example ``"tied_rows"``.
        value: How many there are.
        share: Of all that could be, 0..1; None where there are none that could be.
        examples: A few of them, for looking at.
        effect: What it would do to a metric, in one sentence.
    """

    name: str
    value: int
    share: float | None
    examples: tuple[str, ...]
    effect: str


@dataclass(frozen=True)
class Audit:
    """All findings, and the counts they refer to.

    Attributes:
        counts: Name -> number, for example ``{"users": 943}``.
        findings: One per property that was looked at, whether or not anything was found.
    """

    counts: dict[str, int]
    findings: tuple[Finding, ...]

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return the audit as mappings, lists, text and numbers."""
        return {"counts": self.counts, "findings": [{**asdict(f), "examples": list(f.examples)} for f in self.findings]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Audit:
        """Return what `to_json` was called on."""
        found = (Finding(**{**entry, "examples": tuple(entry["examples"])}) for entry in content["findings"])
        return cls(dict(content["counts"]), tuple(found))


def finding(name: str, value: int, of: int, examples: list[Any], effect: str) -> Finding:
    """Return a finding of `value` among `of`."""
    shown = tuple(str(example) for example in examples[:N_EXAMPLES])
    return Finding(name, int(value), value / of if of else None, shown, effect)
