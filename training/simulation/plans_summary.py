"""A cohort of many plans an anatomy at a glance, by technique and by level of wishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .plans import AnatomyPlans, PlanRecord
from .settings import TECHNIQUES

__all__ = ["write_plans_summary"]

_MUTED = "#5b6570"
_COLORS = ("#9ab6d3", "#4c78a8", "#1d3f66")  # of the levels of wishes


def write_plans_summary(folder: Path, records: Sequence[AnatomyPlans]) -> Path:
    """Write `summary.png` of the plans that are there, and return its path."""
    plans = [plan for record in records for plan in record.plans if not plan.faults]
    left_out = sum(bool(plan.faults) for record in records for plan in record.plans)
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3)
    _draw_counts(figure.add_subplot(grid[0, 0]), plans)
    measures: dict[str, Callable[[PlanRecord], float]] = {
        "PTV D2, % of prescription": lambda plan: 100 * plan.quality.near_maximum,
        "Paddick conformity": lambda plan: plan.quality.conformity,
        "D2cc outside the PTV, %": lambda plan: 100 * plan.quality.hottest_outside,
        "CPU seconds of a plan": lambda plan: plan.cpu_seconds,
    }
    for index, (label, measure) in enumerate(measures.items(), start=1):
        _draw_boxes(figure.add_subplot(grid[index // 3, index % 3]), label, plans, measure)
    _draw_wishes(figure.add_subplot(grid[1, 2]), plans)
    splits = Counter(record.split for record in records)
    parts = ", ".join(f"{count} {name}" for name, count in splits.items())
    figure.suptitle(
        f"{len(plans)} plans of {len(records)} simulated anatomies ({parts}); {left_out} left out",
        fontsize=12,
    )
    path = folder / "summary.png"
    figure.savefig(path, dpi=110, facecolor="white")
    return path


def _draw_counts(axes: Axes, plans: Sequence[PlanRecord]) -> None:
    counts = Counter((plan.technique, plan.level) for plan in plans)
    before = dict.fromkeys(TECHNIQUES, 0)
    for level, color in enumerate(_COLORS):
        heights = [counts[technique, level] for technique in TECHNIQUES]
        bottoms = list(before.values())
        label = "no wishes" if level == 0 else f"wishes, level {level}"
        axes.bar(TECHNIQUES, heights, bottom=bottoms, color=color, label=label)
        before = {t: b + h for (t, b), h in zip(before.items(), heights, strict=True)}
    axes.set_title("plans by technique", fontsize=9, loc="left")
    axes.set_ylim(0, 1.25 * max(max(before.values()), 1))
    axes.legend(fontsize=7.5, frameon=False, loc="upper center", ncol=len(_COLORS))
    _plain(axes)


def _draw_boxes(
    axes: Axes, label: str, plans: Sequence[PlanRecord], measure: Callable[[PlanRecord], float]
) -> None:
    groups = {t: [measure(plan) for plan in plans if plan.technique == t] for t in TECHNIQUES}
    filled = {technique: values for technique, values in groups.items() if values}
    if filled:
        axes.boxplot(
            list(filled.values()),
            tick_labels=list(filled),
            widths=0.6,
            flierprops={"markersize": 3},
            medianprops={"color": "#1b1f24"},
        )
    axes.set_title(label, fontsize=9, loc="left")
    _plain(axes)


def _draw_wishes(axes: Axes, plans: Sequence[PlanRecord]) -> None:
    """What was asked for against what the plan gives."""
    for level, color in enumerate(_COLORS[1:], start=1):
        pairs = [
            (wish.percent, plan.reached_percent[wish.structure])
            for plan in plans
            if plan.level == level
            for wish in plan.wishes
        ]
        if pairs:
            asked, given = zip(*pairs, strict=True)
            axes.scatter(asked, given, s=9, color=color, label=f"level {level}")
    axes.axline((0, 0), slope=1, color=_MUTED, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="limit, %", ylabel="plan, %")
    axes.set_title("volumes of organs: wished and given", fontsize=9, loc="left")
    axes.legend(fontsize=7.5, frameon=False)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)
