"""What a check of the log doctor says: OK, WARN, FAIL or SKIP, the measured value, the rule and the fix."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["SKIP", "OK", "WARN", "FAIL"]
SEVERITY: tuple[Status, ...] = ("SKIP", "OK", "WARN", "FAIL")
"""From the least to the worst; SKIP is what the log has no data for."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, the same for every log.
        about: the sensor (camera name, ``lidar``) or ``log``.
        status: one of ``SEVERITY``.
        measured: the value in words.
        rule: what is expected.
        fix: what to do where the rule is broken.
        values: the figures behind it, for JSON.
    """

    name: str
    about: str
    status: Status
    measured: str
    rule: str
    fix: str
    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def judge(warn: bool, fail: bool = False) -> Status:
    """The status of a check whose rules are broken or not."""
    return "FAIL" if fail else "WARN" if warn else "OK"


def worst(checks: Sequence[Check]) -> Status:
    """The worst status of all; SKIP if there is no check."""
    return max((check.status for check in checks), key=SEVERITY.index, default="SKIP")


def table(checks: Sequence[Check]) -> str:
    """A line per check, and below those that are broken their rule and fix."""
    names = max((len(check.name) for check in checks), default=0)
    abouts = max((len(check.about) for check in checks), default=0)
    lines = [f"checks: {_counts(checks)}"]
    for check in checks:
        lines.append(f"  {check.status:<4}  {check.name:<{names}}  {check.about:<{abouts}}  {check.measured}")
        if check.status in ("WARN", "FAIL"):
            lines.append(f"        expected: {check.rule}; fix: {check.fix}")
    return "\n".join(lines)


def _counts(checks: Sequence[Check]) -> str:
    found = [(status, sum(check.status == status for check in checks)) for status in SEVERITY[::-1]]
    return ", ".join(f"{count} {status}" for status, count in found if count)
