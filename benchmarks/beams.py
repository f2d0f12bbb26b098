"""Times of the ray model and of mimicking, and how well beams reproduce true doses.

python -m benchmarks.beams [--cases FOLDER] [--picture FILE]

The folder holds OpenKBP cases; the shipped one alone by default. Their doses are mimicked with the
nine angles of the data set and with these turned by 20°, in the voxels that are scored.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from DosePredictionLib.beams.arrangement import ARRANGEMENTS, BeamArrangement
from DosePredictionLib.beams.density import relative_electron_density
from DosePredictionLib.beams.mimic import mimic
from DosePredictionLib.beams.ray_dose import RayDose
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.tracing import Anatomy, trace
from DosePredictionLib.evaluation.scores import dose_score, dvh_score_terms
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume
from training.data import case_paths

_CASE = Path(__file__).parent.parent / "Resources" / "SampleData" / "openkbp" / "pt_235.npz"
_ITERATIONS = 40


def _anatomy(bound: BoundCase) -> Anatomy:
    case = bound.case
    body = bound.external.binary()
    density = np.where(body, relative_electron_density(case.ct.array), np.float32(0))
    targets = {name: bound.structures[name].mask.binary() for name in bound.named("target")}
    return Anatomy(case.grid, density, body, targets)


def _median_s(work: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[times // 2]


def _operator(anatomy: Anatomy, beams: BeamArrangement) -> RayDose:
    model = RayModel()
    return RayDose(trace(beams, anatomy, model), model, anatomy.grid.shape)


def _times(bound: BoundCase) -> None:
    case = bound.case
    anatomy, beams = _anatomy(bound), ARRANGEMENTS["nine-field"]
    operator = _operator(anatomy, beams)
    assert case.plan_dose is not None
    wanted = operator.of_volume(case.plan_dose.array)
    fluence = np.ones(operator.elements, dtype=np.float32)
    write = sys.stdout.write
    write(
        f"{case.name}: nine beams, {operator.elements} elements, {operator.voxels.size} voxels\n"
        f"geometry and depth {_median_s(lambda: _operator(anatomy, beams)):.2f} s, "
        f"dose {1000 * _median_s(lambda: operator.dose(fluence)):.0f} ms, "
        f"adjoint {1000 * _median_s(lambda: operator.adjoint(wanted)):.0f} ms, "
        f"{_ITERATIONS} iterations of mimicking "
        f"{_median_s(lambda: mimic(operator, wanted, _ITERATIONS)):.2f} s\n"
    )


def _mimicked(bound: BoundCase, beams: BeamArrangement) -> Volume:
    """The dose of the beams that comes nearest to the plan's, Gy, where it is scored."""
    plan = bound.case.plan_dose
    assert plan is not None
    operator = _operator(_anatomy(bound), beams)
    region = bound.region.touched()
    weights = operator.of_volume(region)
    found = mimic(operator, operator.of_volume(plan.array), _ITERATIONS, weights)
    return plan.with_array(operator.as_volume(found.dose) * region)


def _reproduced(bound: BoundCase, beams: BeamArrangement) -> tuple[float, list[float]]:
    """Dose score, and the errors of the scored endpoints, of the mimicked plan, Gy."""
    plan = bound.case.plan_dose
    assert plan is not None
    dose = _mimicked(bound, beams)
    masks = {name: structure.mask for name, structure in bound.structures.items()}
    terms = dvh_score_terms(
        dose, plan, masks, targets=bound.named("target"), organs=bound.named("organ")
    )
    score = dose_score(dose, plan, bound.region)
    assert score is not None
    return score, list(terms.values())


def _draw(bound: BoundCase, file: Path) -> None:
    """Fans on an axial slice, the plan, and what nine beams can give of it from either angles."""
    from matplotlib import pyplot

    case, true = bound.case, ARRANGEMENTS["nine-field"]
    assert case.plan_dose is not None
    fields = trace(true, _anatomy(bound), RayModel())
    ct = case.ct.reordered_to_lps()
    target = np.any([mask.reordered_to_lps().touched() for mask in bound.targets], axis=0)
    # Where a third of the target's volume lies below: targets on both sides, a neck between them.
    area = np.cumsum(target.sum(axis=(1, 2)))
    plane = int(np.searchsorted(area, area[-1] / 3))
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 4.6), layout="constrained")
    left, right, top, bottom = _view_mm(bound, plane)
    low, high = ct.grid.bounds_mm()
    extent = (low[0], high[0], high[1], low[1])
    for axis in axes:
        axis.contour(target[plane], [0.5], colors="black", extent=extent, origin="upper")
        axis.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes[0].imshow(ct.array[plane], extent=extent, cmap="gray", vmin=-300, vmax=400)
    for field in fields:
        frame = field.frame
        edges = field.lattice.u_mm[field.open.any(axis=0)][[0, -1]]
        far = [
            frame.sad_mm * np.array(frame.toward) + edge * np.array(frame.across) for edge in edges
        ]
        source = np.array(frame.source_mm[:2])
        corners = np.array([source, *(source + 1.3 * each for each in far)])
        axes[0].fill(*corners.T, color="tab:orange", alpha=0.05, lw=0)
        axes[0].plot(*corners[[1, 0, 2]].T, color="tab:orange", lw=0.7)
    axes[0].set(title="Nine beams, open for the targets")
    plan = case.plan_dose
    drawn = axes[1].imshow(
        plan.reordered_to_lps().array[plane], extent=extent, cmap="turbo", vmin=0, vmax=75
    )
    figure.colorbar(drawn, ax=axes[1], shrink=0.8)
    axes[1].set(title="Plan, Gy")
    turned = BeamArrangement.of_angles([angle + 20.0 for angle in true.gantry_degrees])
    for axis, words, beams in ((axes[2], "0°, 40°, …", true), (axes[3], "20°, 60°, …", turned)):
        off = _mimicked(bound, beams).array - plan.array
        values = plan.with_array(off).reordered_to_lps().array[plane]
        drawn = axis.imshow(values, extent=extent, cmap="RdBu_r", vmin=-8, vmax=8)
        mean = np.abs(off)[bound.region.touched()].mean()
        axis.set(title=f"Mimicked from {words} − plan, Gy", xlabel=f"dose score {mean:.2f} Gy")
    figure.colorbar(drawn, ax=axes[2:], shrink=0.8)
    figure.savefig(file, dpi=90)


def _view_mm(bound: BoundCase, plane: int) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of the body on a slice, with a margin."""
    body = bound.external.reordered_to_lps()
    index = np.argwhere(body.binary()[plane])
    (top, left), (bottom, right) = index.min(axis=0), index.max(axis=0)
    first, last = body.grid.world_from_index([[left, top, plane], [right, bottom, plane]])
    return first[0] - 40, last[0] + 40, first[1] - 40, last[1] + 40


def main(arguments: list[str] | None = None) -> None:
    """Print times, then the scores of mimicked true doses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder of OpenKBP cases with doses")
    parser.add_argument("--picture", type=Path, help="draw the shipped case to a PNG instead")
    given = parser.parse_args(arguments)
    protocol = StructureProtocol.load("openkbp")
    if given.picture is not None:
        _draw(bind(read_case(_CASE), protocol), given.picture)
        return
    _times(bind(read_case(_CASE), protocol))
    paths = [_CASE] if given.cases is None else case_paths(given.cases)
    true = ARRANGEMENTS["nine-field"]
    turned = BeamArrangement.of_angles([angle + 20.0 for angle in true.gantry_degrees])
    for words, beams in (("true angles", true), ("turned by 20°", turned)):
        scores, endpoints = [], []
        for path in paths:
            score, terms = _reproduced(bind(read_case(path), protocol), beams)
            scores.append(score)
            endpoints += terms
        sys.stdout.write(
            f"{words}: true doses of {len(paths)} patients are reproduced to dose score "
            f"{np.mean(scores):.2f} Gy ({min(scores):.2f} … {max(scores):.2f}), "
            f"DVH score {np.mean(endpoints):.2f} Gy\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
