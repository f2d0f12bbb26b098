"""Samples of doses: steps, time, quality and calibration, beside simpler ways to draw them.

    python -m benchmarks.diffusion --model MODEL --fit CACHE --cases CACHE
        [--flow FOLDER …] [--samplers heun:1,heun:4,ddim:8] [--samples 8] [--widening 1]
        [--only WAY]

on caches to which `python -m training residuals` has added dose and expected error of MODEL, which
has a scale. Rows: the regression; its networks' single passes; scale × white noise; scale × a
Gaussian field fitted to --fit; each flow or diffusion of doses, by default the model's own flow,
by each sampler. Columns: seconds a sample; dose and DVH
score of one sample and of the mean; Spearman of spread and |error| above 5 Gy; spread / RMSE there;
CRPS of the DVH endpoints in Gy, and how many plans lie within all samples, beside how many would if
the samples were as the plans are.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.evaluation.ensembles import crps, rank_correlation, spread_by_error
from DosePredictionLib.evaluation.evaluate import EvaluationParts, evaluate
from DosePredictionLib.evaluation.scores import dose_score, dvh_score_terms
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import OutputRole
from DosePredictionLib.structures.bound import BoundCase
from DosePredictionLib.tasks.diffusion import Sampling
from DosePredictionLib.tasks.dose_regression import scored_dose_gy
from DosePredictionLib.tasks.residual_flow import ResidualFlow
from DosePredictionLib.volume import Volume
from training.validation import bound_case

from .gaussian_field import GaussianField
from .passes import Passes
from .residuals import Residuals, read_residuals

__all__ = ["Way", "main"]

Draw = Callable[[Residuals, int], NDArray[np.float32]]
"""A dose of a case by a seed, Gy."""

_SAMPLE: tuple[OutputRole, ...] = ("sample",)
_ENDPOINTS = ("Dmean_gy", "D99_gy", "D95_gy", "D50_gy", "D2_gy", "D0.1cc_gy")


@dataclass(frozen=True, eq=False)
class Way:
    """One way to draw doses.

    Args:
        draws: how many there are; a regression has one. None: as many as are asked for.
    """

    name: str
    draw: Draw
    draws: int | None = None

    def count(self, samples: int) -> int:
        """How many of so many samples are drawn."""
        return samples if self.draws is None else min(samples, self.draws)


@dataclass(eq=False)
class _Row:
    """What a way reached, a value a case or an endpoint."""

    seconds: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    dvh_one: list[float] = field(default_factory=list)
    dvh_mean: list[float] = field(default_factory=list)
    spearman: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    crps: list[float] = field(default_factory=list)
    within: list[bool] = field(default_factory=list)


def main() -> None:
    """Print a line a way."""
    if len(sys.argv) == 1:
        sys.stdout.write("needs a model with a scale and two caches: --model, --fit, --cases\n")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder or name, with a scale")
    parser.add_argument("--fit", type=Path, required=True, help="cache for the Gaussian field")
    parser.add_argument("--cases", type=Path, required=True, help="cache that is judged")
    parser.add_argument("--flow", nargs="*", default=None, help="folders (default: the model's)")
    parser.add_argument("--samplers", default="heun:1,heun:4,heun:8,ddim:8,euler:16")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument(
        "--widening", type=float, default=1.0, help="of a flow's samples about the regression"
    )
    parser.add_argument("--only", default="", help="ways whose names begin so")
    parser.add_argument("--most", type=int, default=None, help="cases")
    arguments = parser.parse_args()
    model = DoseModel.load(arguments.model)
    fitted = GaussianField.fitted(read_residuals(model, arguments.fit))
    cases = read_residuals(model, arguments.cases, arguments.most)
    own = model.folder / "flow"
    flows = [own] if arguments.flow is None and own.is_dir() else list(arguments.flow or ())
    sys.stdout.write(
        f"{len(cases)} cases, {arguments.samples} samples; the field's length is "
        f"{fitted.length_mm:.1f} mm, its size {fitted.size:.2f} expected errors\n{_HEADER}\n"
    )
    drawn = _flows(flows, arguments.samplers.split(","), arguments.widening)
    for way in (*_simple(model, fitted), *drawn):
        if not way.name.startswith(arguments.only):
            continue
        row = _Row()
        for each in cases:
            _judge(way, each, arguments.samples, row)
        sys.stdout.write(f"{way.name:<28}{_numbers(row, way.count(arguments.samples))}\n")
        sys.stdout.flush()


def _simple(model: DoseModel, fitted: GaussianField) -> Iterator[Way]:
    yield Way("regression", lambda case, seed: case.dose_gy, draws=1)
    passes = Passes(model)
    yield Way(f"{len(passes)} single passes", passes.dose_gy, draws=len(passes))
    white = GaussianField(0.01, fitted.size)
    yield Way("scale x white noise", white.sample_gy)
    yield Way("scale x Gaussian field", fitted.sample_gy)


def _flows(flows: Sequence[Path], samplers: Sequence[str], widening: float) -> Iterator[Way]:
    for folder in flows:
        predictor = Predictor(str(folder))
        for text in samplers:
            sampler, _, steps = text.partition(":")
            sampling = Sampling(sampler, int(steps))  # type: ignore[arg-type]
            yield Way(
                f"{Path(folder).name} {sampler} {steps}", _flow(predictor, sampling, widening)
            )


def _flow(predictor: Predictor, sampling: Sampling, widening: float) -> Draw:
    task = predictor.task
    assert isinstance(task, ResidualFlow)

    def draw(case: Residuals, seed: int) -> NDArray[np.float32]:
        task.sampling = sampling
        earlier = np.stack([case.dose_gy, case.scale_gy]) / np.float32(case.unit_gy)
        found = predictor.infer(case.case.input(), keep=_SAMPLE, seed=seed, earlier=earlier)
        sample = found.output * np.float32(case.unit_gy)
        return case.dose_gy + np.float32(widening) * (sample - case.dose_gy)

    return draw


def _judge(way: Way, case: Residuals, samples: int, row: _Row) -> None:
    protocol = case.case.channels.protocol
    levels = {} if case.case.prescription_gy is None else _levels(case)
    bound = bound_case(case.case, protocol, levels)
    doses = []
    for seed in range(way.count(samples)):
        started = time.perf_counter()
        doses.append(scored_dose_gy(way.draw(case, seed), bound))
        row.seconds.append(time.perf_counter() - started)
    drawn = np.stack(doses)
    mean = drawn.mean(axis=0)
    plan = Volume(case.plan_gy, bound.case.grid)
    for dose, score, terms in ((drawn[0], row.one, row.dvh_one), (mean, row.mean, row.dvh_mean)):
        volume = Volume(dose, bound.case.grid)
        score.append(dose_score(volume, plan, bound.region) or 0.0)
        terms += _dvh_terms(volume, plan, bound)
    if way.count(samples) > 1:
        inside = case.high
        error = np.abs(case.plan_gy - mean)[inside]
        row.spearman.append(rank_correlation(drawn.std(axis=0)[inside], error))
        row.ratio.append(spread_by_error(drawn[:, inside], case.plan_gy[inside]))
    values = np.array([_endpoints(bound, dose) for dose in drawn])
    planned = np.array(_endpoints(bound, np.maximum(case.plan_gy, 0)))
    row.crps += crps(values, planned).tolist()
    row.within += ((planned >= values.min(axis=0)) & (planned <= values.max(axis=0))).tolist()


def _levels(case: Residuals) -> dict[str, float]:
    assert case.case.prescription_gy is not None
    return {each.name: case.case.prescription_gy for each in case.case.channels.protocol.targets}


def _dvh_terms(dose: Volume, plan: Volume, bound: BoundCase) -> list[float]:
    masks = {name: each.mask for name, each in bound.structures.items()}
    targets, organs = bound.named("target"), bound.named("organ")
    return list(dvh_score_terms(dose, plan, masks, targets=targets, organs=organs).values())


def _endpoints(bound: BoundCase, dose_gy: NDArray) -> list[float]:
    evaluation = evaluate(bound, Volume(dose_gy, bound.case.grid), EvaluationParts(reference=None))
    return [
        value
        for name, known in evaluation.endpoints().items()
        if name != evaluation.external
        for key in _ENDPOINTS
        if (value := known["endpoints"][key]) is not None
    ]


_HEADER = (
    f"{'':<28}{'s':>7}{'dose 1':>8}{'mean':>7}{'DVH 1':>7}{'mean':>7}{'Spearman':>10}"
    f"{'spread/RMSE':>13}{'CRPS, Gy':>10}{'within, %':>11}"
)


def _numbers(row: _Row, samples: int) -> str:
    parts = [
        f"{np.median(row.seconds):>7.2f}",
        *(
            f"{np.mean(each):>{width}.2f}"
            for each, width in ((row.one, 8), (row.mean, 7), (row.dvh_one, 7), (row.dvh_mean, 7))
        ),
    ]
    if not row.spearman:
        return "".join([*parts, f"{'–':>10}{'–':>13}{np.mean(row.crps):>10.3f}{'–':>11}"])
    wanted = 100 * (samples - 1) / (samples + 1)
    within = f"{100 * np.mean(row.within):.0f} ({wanted:.0f})"
    return "".join(
        [
            *parts,
            f"{np.mean(row.spearman):>10.3f}",
            f"{np.mean(row.ratio):>13.2f}",
            f"{np.mean(row.crps):>10.3f}",
            f"{within:>11}",
        ]
    )


if __name__ == "__main__":
    main()
