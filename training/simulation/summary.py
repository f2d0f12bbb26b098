"""A cohort at a glance: DVH bands, measures of the patients, quality of the plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from DosePredictionLib.evaluation.dvh import Dvh, dvhs
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.protocol import StructureProtocol

from .cohort import Record

__all__ = ["write_summary"]

_MUTED = "#5b6570"


def write_summary(folder: Path, records: Sequence[Record]) -> Path:
    """Write `summary.png` of the cases that are there, and return its path."""
    curves = _curves(folder, records)
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 4, height_ratios=(2.3, 1, 1))
    highest = max(record.quality.near_maximum for record in records)
    prescription_gy = _prescription_gy(folder, records[0])
    _draw_dvhs(figure.add_subplot(grid[0, :3]), curves, prescription_gy, highest)
    _draw_sites(figure.add_subplot(grid[0, 3]), records)
    measures = {
        "bladder, cc": [_volume(c, "Bladder") for c in curves],
        "PTV, cc": [_volume(c, "PTV") for c in curves],
        "fat at the hips, mm": [record.patient.fat_mm for record in records],
        "size of the skeleton": [record.patient.scale for record in records],
        "PTV D2, % of prescription": [100 * r.quality.near_maximum for r in records],
        "Paddick conformity": [record.quality.conformity for record in records],
        "D2cc outside the PTV, %": [100 * r.quality.hottest_outside for r in records],
        "seconds per plan": [record.plan_seconds for record in records],
    }
    for index, (label, values) in enumerate(measures.items()):
        _draw_histogram(figure.add_subplot(grid[1 + index // 4, index % 4]), label, values)
    thrown_away = sum(len(record.thrown_away) for record in records)
    figure.suptitle(
        f"{len(records)} simulated patients with plans of {prescription_gy:g} Gy; "
        f"{thrown_away} plans thrown away",
        fontsize=12,
    )
    path = folder / "summary.png"
    figure.savefig(path, dpi=110, facecolor="white")
    return path


def _curves(folder: Path, records: Sequence[Record]) -> list[dict[str, Dvh]]:
    result = []
    for record in tqdm(records, unit="DVH"):
        case = read_case(folder / record.split / record.name)
        assert case.plan_dose is not None
        result.append(dvhs(case.plan_dose, case.structures))
    return result


def _prescription_gy(folder: Path, record: Record) -> float:
    prescription = read_case(folder / record.split / record.name).prescription
    assert prescription is not None
    return prescription.highest_gy


def _volume(curves: dict[str, Dvh], name: str) -> float:
    return curves[name].volume_cc if name in curves else 0.0


def _draw_dvhs(
    axes: Axes, curves: Sequence[dict[str, Dvh]], prescription_gy: float, highest: float
) -> None:
    """Median and the middle 80 % of the patients, for each structure."""
    doses = np.linspace(0, 1.02 * highest * prescription_gy, 150)
    for channel in StructureProtocol.load("pelvis").inputs:
        found = [each[channel.name] for each in curves if channel.name in each]
        if not found or channel.role == "external":
            continue
        volumes = np.array([[c.volume_at_gy(d) or 0.0 for d in doses] for c in found])
        low, middle, high = np.percentile(volumes, (10, 50, 90), axis=0)
        axes.fill_between(doses, low, high, color=channel.color, alpha=0.16, linewidth=0)
        axes.plot(doses, middle, color=channel.color, linewidth=1.8, label=channel.label)
    axes.axvline(prescription_gy, color=_MUTED, linewidth=0.8, linestyle=":")
    axes.set(xlabel="dose, Gy", ylabel="volume, %", xlim=(0, doses[-1]), ylim=(0, 101))
    axes.set_title("DVHs: median, and 10th to 90th percentile", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="upper right", bbox_to_anchor=(0.9, 1.0))
    _plain(axes)


def _draw_sites(axes: Axes, records: Sequence[Record]) -> None:
    counts = Counter(f"{r.patient.site.replace('_', ' ')}, {r.patient.sex}" for r in records)
    names = sorted(counts, reverse=True)
    axes.barh(names, [counts[name] for name in names], color="#4c78a8")
    splits = Counter(record.split for record in records)
    text = "\n".join(f"{name} {count}" for name, count in splits.items())
    axes.set_title(text, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    _plain(axes)


def _draw_histogram(axes: Axes, label: str, values: Sequence[float]) -> None:
    shown: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    axes.hist(shown, bins=min(16, max(4, len(values) // 3)), color="#9ab6d3")
    axes.axvline(float(np.median(shown)), color="#1b1f24", linewidth=1)
    axes.set_title(f"{label} (median {np.median(shown):.3g})", fontsize=8.5, loc="left")
    axes.tick_params(labelsize=7.5)
    axes.set_yticks([])
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
