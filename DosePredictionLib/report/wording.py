"""Numbers and keys in words: what an endpoint key, a status or a missing value reads as."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "MISSING",
    "clean",
    "endpoint_label",
    "endpoint_unit",
    "number",
    "reviewed_label",
    "signed",
    "status_words",
    "when",
]

MISSING = "–"
_WORDS = {"mean": "mean", "min": "min", "max": "max"}
_STATUS: Mapping[str, tuple[str, str]] = {
    "met": ("✓", "met"),
    "variation": ("≈", "within variation"),
    "not_met": ("✗", "not met"),
    "not_evaluable": ("?", "not evaluable"),
}


def number(value: Any, digits: int = 1) -> str:
    """A number with a true minus sign; a dash for what is missing, not finite or no number."""
    if not _is_finite(value):
        return MISSING
    text = f"{float(value):.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: Any, digits: int = 1) -> str:
    """As `number`, with a plus sign where it is positive."""
    text = number(value, digits)
    positive = _is_finite(value) and float(value) > 0 and float(text.replace("−", "-")) != 0
    return f"+{text}" if positive else text


def endpoint_label(key: str) -> str:
    """How clinicians write an endpoint: `D95_gy` is "D95%", `V20Gy_percent` "V20Gy"."""
    stem = key.rpartition("_")[0] or key
    match = re.fullmatch(r"D(\d+(?:\.\d+)?)", stem)
    if match:
        return f"D{match[1]}%"
    match = re.fullmatch(r"D(mean|min|max)", stem)
    if match:
        return f"D{_WORDS[match[1]]}"
    return stem.replace("percent", "%")


def reviewed_label(row: Mapping[str, Any]) -> str:
    """What a row of a plan's review is about: an endpoint, or the curve at a volume."""
    key = row["endpoint"]
    return f"curve, at D{row['volume_percent']}%" if key is None else endpoint_label(key)


def endpoint_unit(key: str) -> str:
    """Gy, %, or cc."""
    return {"gy": "Gy", "percent": "%", "cc": "cc"}.get(key.rpartition("_")[2], "")


def status_words(status: Any) -> tuple[str, str]:
    """Symbol and words of a goal's status; never color alone."""
    return _STATUS.get(str(status), _STATUS["not_evaluable"])


def clean(text: Any) -> str:
    """Text without control characters, which HTML and XML do not allow."""
    return "".join(c if c.isprintable() or c == " " else " " for c in str(text)).strip()


def when(iso: Any) -> str:
    """An ISO date, or date and time to the minute; other text stays as it is."""
    text = clean(iso or "")
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(Z|[+-]\d\d:\d\d)?\Z", text)
    if not match:
        return text
    zone = {"Z": " UTC", "+00:00": " UTC", None: ""}.get(match[3], f" {match[3]}")
    return f"{match[1]} {match[2]}{zone}"


def _is_finite(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
