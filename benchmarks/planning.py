"""Plans for given doses: how near they come, what they cost, and pictures of one.

    python -m benchmarks.planning [CASE…] [--beams 9 20 30] [--own-plan] [--pictures DIR]
                                  [--printed TABLE]

Without --own-plan the dose to reach is predicted by the default model. Gamma: the dose to reach is
the reference, the recomputed dose of the plan is evaluated; global, 10 % cut-off. CPU seconds and
peak memory are those of a process that reads, predicts, plans and writes one case. A case whose
line stands in an earlier table (--printed, of the same beams) is not planned again; it counts in
the medians as it was printed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from DosePredictionLib.app.plan import PlanRequest, plan_case
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import read_dose_file
from DosePredictionLib.io.dicom.files import open_dicom
from DosePredictionLib.io.dicom.plan import read_plan
from DosePredictionLib.mask import to_binary
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.report.beams_eye import draw_segments
from DosePredictionLib.resources import resource_path
from DosePredictionLib.volume import Volume

__all__ = ["draw_beam", "draw_doses", "main", "measured", "printed_records"]

_SAMPLE = resource_path("SampleData", "simulated_pelvis")
_HEAD = (
    f"{'case':<20}{'beams':>6}{'fluence':>16}{'plan':>16}{'recomputed':>12}{'mean Gy':>9}"
    f"{'DVH Gy':>8}{'lost':>6}{'broken':>8}{'segm.':>7}{'MU':>7}{'CPU s':>7}{'GiB':>6}"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="*", default=[_SAMPLE])
    parser.add_argument("--beams", nargs="+", default=["9"])
    parser.add_argument("--own-plan", action="store_true")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    parser.add_argument("--printed", type=Path, metavar="TABLE")
    call = parser.parse_args()
    sys.stdout.write(f"{_HEAD}\n{'':<26}{'3 %, 2 %':>16}{'3 %, 2 %':>16}{'3 %':>12}\n")
    with tempfile.TemporaryDirectory() as scratch:
        for line in _lines(call, Path(scratch)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _lines(call: argparse.Namespace, scratch: Path) -> Iterator[str]:
    known = {} if call.printed is None else printed_records(call.printed.read_text())
    for beams in call.beams:
        requests = [
            PlanRequest(case, scratch / beams, beams=beams, own_plan=call.own_plan)
            for case in call.cases
            if case.name not in known
        ]
        records = [known[case.name] for case in call.cases if case.name in known]
        yield from map(_line, records)
        for _, record in parallel_map(measured, requests, 1, start="spawn"):
            records.append(record)
            yield _line(record)
            if call.pictures:
                folder = scratch / beams / record["case"]
                draw_beam(folder, call.pictures / f"plan_beam_{beams}.png")
                draw_doses(folder, call.cases[0], call.pictures / f"plan_doses_{beams}.png")
        if len(records) > 1:
            yield _line(_median(records))


def printed_records(table: str) -> dict[str, dict[str, Any]]:
    """Case → the record that a line of an earlier table states; other lines are passed over."""
    records = {}
    for line in table.splitlines():
        case, *words = line.split() or [""]
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            continue
        if len(numbers) != 14 or case == "median":
            continue
        beams, f3, f2, p3, p2, r3, mean, dvh, lost, broken, segments, mu, seconds, gib = numbers
        records[case] = {
            "case": case,
            "complexity": {"beams": beams, "segments": segments, "monitor_units": mu},
            "gamma": {
                "fluence": {"3%/3mm": f3, "2%/2mm": f2},
                "plan": {"3%/3mm": p3, "2%/2mm": p2},
                "recomputed_against_optimized": {"3%/3mm": r3},
            },
            "mean_difference_gy": mean,
            "dvh_score_gy": dvh,
            "goals_lost": lost,
            "violations": broken,
            "cpu_seconds": seconds,
            "peak_gib": gib,
        }
    return records


def measured(request: PlanRequest) -> dict[str, Any]:
    """The record of one plan, with what it cost. Runs in a process of its own."""
    begun = time.process_time()
    record = dict(plan_case(request).record)
    record["cpu_seconds"] = time.process_time() - begun
    record["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record["goals_lost"] = len(record["goals_lost"])
    return record


def _line(record: dict[str, Any]) -> str:
    rates, figures = record["gamma"], record["complexity"]
    pair = "{:>9.1f}{:>7.1f}"
    return (
        f"{record['case']:<20}{figures['beams']:>6.0f}"
        + pair.format(*rates["fluence"].values())
        + pair.format(*rates["plan"].values())
        + f"{rates['recomputed_against_optimized']['3%/3mm']:>12.1f}"
        f"{record['mean_difference_gy']:>+9.2f}{record['dvh_score_gy'] or 0:>8.2f}"
        f"{record['goals_lost']:>6.0f}{record['violations']:>8.0f}{figures['segments']:>7.0f}"
        f"{figures['monitor_units']:>7.0f}{record['cpu_seconds']:>7.0f}{record['peak_gib']:>6.1f}"
    )


def _median(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number that all records have, by the same names."""

    def of(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            shared = [key for key in values[0] if all(key in value for value in values)]
            return {key: of([value[key] for value in values]) for key in shared}
        numbers = all(isinstance(value, int | float) for value in values)
        return float(np.median(values)) if numbers else values[0]

    return {**of([dict(record) for record in records]), "case": "median"}


def draw_beam(folder: Path, path: Path, number: int = 0) -> None:
    """Beam's-eye views of a written plan: leaves and jaws of some segments of one beam."""
    draw_segments(read_plan(open_dicom(folder / "rtplan.dcm")).beams[number], path)


def draw_doses(folder: Path, case_path: Path, path: Path) -> None:
    """The dose of a written plan in three planes through its isocenter, with the target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    case = read_case(case_path)
    dose = read_dose_file(folder / "rtdose.dcm").resampled_to(case.grid)
    isocenter = read_plan(open_dicom(folder / "rtplan.dcm")).beams[0].isocenter_mm
    assert isocenter is not None
    x, y, z = np.round(case.grid.index_from_world(isocenter)).astype(int)
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2))
    planes = {"axial": np.s_[z], "coronal": np.s_[:, y], "sagittal": np.s_[:, :, x]}
    for axis, (name, plane) in zip(axes, planes.items(), strict=True):
        shown = _draw_plane(axis, case.ct, dose, case.structures["PTV"], plane)
        axis.set_title(name, fontsize=10)
    figure.colorbar(shown, ax=axes, label="Gy", shrink=0.85)
    figure.suptitle("Dose of the written plan; target in white. NOT FOR CLINICAL USE", fontsize=10)
    _save(figure, path)


def _draw_plane(axis: Any, ct: Volume, dose: Volume, target: Volume, plane: Any) -> Any:
    vertical = ct.grid.spacing[1] if isinstance(plane, int | np.integer) else ct.grid.spacing[2]
    axial = isinstance(plane, int | np.integer)
    style = {"aspect": vertical / ct.grid.spacing[0], "origin": "upper" if axial else "lower"}
    axis.imshow(ct.array[plane], cmap="gray", vmin=-160, vmax=240, **style)
    values = np.ma.masked_less(dose.array[plane], 2.0)
    shown = axis.imshow(
        values, cmap="turbo", alpha=0.55, vmin=0, vmax=float(dose.array.max()), **style
    )
    axis.contour(to_binary(target.array[plane]), levels=[0.5], colors="white", linewidths=1)
    axis.axis("off")
    return shown


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
