"""Times of the ray model and of mimicking, and how well beams reproduce true doses.

python -m benchmarks.beams [--cases FOLDER]

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


def _reproduced(bound: BoundCase, beams: BeamArrangement) -> tuple[float, list[float]]:
    """Dose score, and the errors of the scored endpoints, of the mimicked plan, Gy."""
    case = bound.case
    plan = case.plan_dose
    assert plan is not None
    anatomy = _anatomy(bound)
    operator = _operator(anatomy, beams)
    region = bound.region.touched()
    weights = operator.of_volume(region)
    found = mimic(operator, operator.of_volume(plan.array), _ITERATIONS, weights)
    dose = plan.with_array(operator.as_volume(found.dose) * region)
    masks = {name: structure.mask for name, structure in bound.structures.items()}
    terms = dvh_score_terms(
        dose, plan, masks, targets=bound.named("target"), organs=bound.named("organ")
    )
    score = dose_score(dose, plan, bound.region)
    assert score is not None
    return score, list(terms.values())


def main(arguments: list[str] | None = None) -> None:
    """Print times, then the scores of mimicked true doses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder of OpenKBP cases with doses")
    given = parser.parse_args(arguments)
    protocol = StructureProtocol.load("openkbp")
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
