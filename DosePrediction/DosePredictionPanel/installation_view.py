"""The report on the installation, and the devices that it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .i18n import _

__all__ = ["InstallationReport", "read_report"]


@dataclass(frozen=True)
class InstallationReport:
    """What the worker's Python says of itself.

    Args:
        text: lines to read and to copy.
        devices: as the worker takes them → as a person reads them.
    """

    text: str
    devices: Mapping[str, str]


def read_report(output: str, errors: str = "") -> InstallationReport:
    """The report from the output of `python -m DosePredictionLib check --json`.

    An output that is no report is shown as it is, with what went to stderr.
    """
    from DosePredictionLib.app.check import report_text

    devices = {"auto": _("Automatic"), "cpu": _("CPU")}
    try:
        report = json.loads(output)["check"]
        found = report["cuda_devices"]
    except (ValueError, KeyError, TypeError):
        text = "\n".join(part for part in (output.strip(), errors.strip()) if part)
        return InstallationReport(text or _("The worker's Python gave no report."), devices)
    for number, device in enumerate(found if isinstance(found, list) else ()):
        devices[f"cuda:{number}"] = _("{name}, {memory:g} GiB").format(
            name=device["name"], memory=device["memory_gib"]
        )
    return InstallationReport(report_text(report), devices)
