"""What programs print: text for people, or one JSON object on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..findings import Finding

__all__ = ["Output", "goals_in_words", "json_ready"]

_STATUS = {
    "met": "met",
    "variation": "within variation",
    "not_met": "not met",
    "not_evaluable": "not evaluable",
}


def goals_in_words(goals: Sequence[Mapping[str, Any]]) -> str:
    """How many goals have which status: "9 met, 2 not met"."""
    counts = {status: sum(goal["status"] == status for goal in goals) for status in _STATUS}
    return ", ".join(f"{count} {_STATUS[status]}" for status, count in counts.items() if count)


def json_ready(value: Any) -> Any:
    """The value in JSON types; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (str, bool)) or value is None:
        return value
    if hasattr(value, "tolist"):  # numpy's, which a command that starts has not loaded yet
        return json_ready(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [json_ready(item) for item in value]
    return str(value)


class Output:
    """Text or JSON on stdout, everything else on stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, result: Mapping[str, Any], text: str) -> None:
        """The program's result: the JSON object, or the text for people."""
        if self.as_json:
            text = json.dumps(json_ready(result), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(_printable(text.rstrip("\n")) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A line on stderr."""
        sys.stderr.write(_printable(text.rstrip("\n")) + "\n")

    def findings(self, findings: Sequence[Finding]) -> None:
        """Warnings on stderr, a line each; the rest is in `prediction.json`."""
        for finding in findings:
            if finding.severity != "info":
                self.note(f"{finding.severity}: {finding.message} {finding.remedy}".rstrip())

    def error(self, exception: Exception) -> None:
        """One line on stderr and, where asked for, the JSON error on stdout."""
        message = " ".join(str(exception).split())
        self.note(f"error: {message}")
        if self.as_json:
            self.result({"error": {"type": type(exception).__name__, "message": message}}, "")


def _printable(text: str) -> str:
    """The text; what is no valid Unicode in it, as names of files may be, in escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
