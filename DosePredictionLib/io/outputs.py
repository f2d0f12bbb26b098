"""Every output of a prediction beside its dose, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..prediction import Output, Prediction
from .volumes import write_volume

__all__ = ["output_record", "write_further"]


def write_further(
    folder: Path, prediction: Prediction, suffix: str, with_spread: bool
) -> list[dict[str, Any]]:
    """Write `<key><suffix>` for every output but the dose; their records.

    Args:
        suffix: of a format of `volumes.FORMATS`.
        with_spread: whether spread and expected error are written, too: most people do not look at
            them.
    """
    records = []
    for output in prediction.further:
        if output.role not in ("spread", "expected error") or with_spread:
            name = output.key + suffix
            unit = " in Gy" if output.unit == "Gy" else ""
            text = f"PREDICTED{unit}, research only: {output.label}"
            write_volume(folder / name, output.volume, text)
            records.append(output_record(output, name))
    return records


def output_record(output: Output, file: str) -> dict[str, Any]:
    """What `prediction.json` says of an output, and the name of its file."""
    return {
        "key": output.key,
        "role": output.role,
        "unit": output.unit,
        "structure": output.structure,
        "level": output.level,
        "member": output.member,
        "file": file,
    }
