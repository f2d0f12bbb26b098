"""Tables as CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .files import whole_file

__all__ = ["csv_text", "safe_cell", "write_table"]

_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: Any) -> Any:
    """The value; text that a spreadsheet would run, and is no number, with ' before it.

    As the Open Worldwide Application Security Project advises against CSV injection.
    """
    if not isinstance(value, str) or not value.startswith(_RUN_BY_SPREADSHEETS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv_text(rows: Iterable[Sequence[Any]], delimiter: str = ",") -> str:
    """Rows as lines of delimited values, every cell safe."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return text.getvalue()


def write_table(path: Path, rows: Iterable[Sequence[Any]], encoding: str = "utf-8") -> None:
    """Write a CSV file whole or not at all.

    Raises:
        DosePredictionError: the place is a folder or a device.
    """
    with whole_file(path) as aside:
        aside.write_bytes(csv_text(rows).encode(encoding, "backslashreplace"))
