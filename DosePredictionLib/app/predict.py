"""Prediction of cases from files to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Case
from ..encoding.beams import beam_inputs
from ..errors import ModelError
from ..findings import Finding
from ..io import read_case
from .bands import model_calibration
from .choices import BeamsChoice, MappingChoice, PrescriptionChoice, WishesChoice
from .outputs import OutputRequest, PredictedCase, require_writable, write_outputs
from .several import CaseFailure, Several, work_on_cases

if TYPE_CHECKING:
    from ..inference.predictor import Predictor
    from ..models.dose_model import DoseModel

__all__ = ["PredictRequest", "Watch", "predict_cases"]


@dataclass(frozen=True)
class PredictRequest:
    """What to predict and with what.

    Args:
        cases: folders and files that `read_case` takes.
        output: what is written of each.
        model: name or folder; None: the default model of the protocol that fits.
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        mapping: structures for channels.
        prescription: goes before the cases' own.
        beams: go before the cases' own.
        wishes: likewise.
        recompute_strips: ignore strip masks that came with a case.
        force_model: a model of another body site is a warning, not a refusal.
        deliverable: hold the dose against what the beams can give; a finding says how it ended.
    """

    cases: tuple[Path, ...]
    output: OutputRequest
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    mapping: MappingChoice = field(default_factory=MappingChoice)
    prescription: PrescriptionChoice = field(default_factory=PrescriptionChoice)
    beams: BeamsChoice = field(default_factory=BeamsChoice)
    wishes: WishesChoice = field(default_factory=WishesChoice)
    recompute_strips: bool = False
    force_model: bool = False
    deliverable: bool = False


@dataclass(frozen=True)
class Watch:
    """Who hears while the work goes on.

    Args:
        progress: case, share done, and stage in words.
        findings: of each case as it is predicted.
        failed: each failure as it happens.
    """

    progress: Callable[[str, float, str], None] = lambda case, share, stage: None
    findings: Callable[[Sequence[Finding]], None] = lambda findings: None
    failed: Callable[[CaseFailure], None] = lambda failure: None


def predict_cases(request: PredictRequest, watch: Watch | None = None) -> Several[PredictedCase]:
    """Predict each case and write its files. See `work_on_cases` for what happens to errors.

    Raises:
        DosePredictionError: the request itself is wrong, or its only case failed.
    """
    watch = watch or Watch()
    require_writable(request.output.folder)
    predictors = _Predictors(request)

    def one(path: Path) -> PredictedCase:
        started = time.perf_counter()
        case = request.wishes.of(request.beams.of(read_case(path)))
        read_seconds = time.perf_counter() - started
        predictor = predictors.of(case)
        prediction = predictor.predict(
            case,
            request.mapping.of(predictor.model.protocol),
            request.prescription.of(case),
            request.recompute_strips,
            lambda share, stage: watch.progress(case.name, share, stage),
            force_model=request.force_model,
        )
        if request.deliverable:
            from ..evaluation.deliverability import deliverability

            found = deliverability(prediction.bound, prediction.dose).finding
            prediction = replace(prediction, findings=(*prediction.findings, found))
        watch.findings(prediction.findings)
        return write_outputs(prediction, request.output, read_seconds, started)

    return work_on_cases(request.cases, one, watch.failed)


class _Predictors:
    """The predictor of the named model, or of each model that cases ask for, made once."""

    def __init__(self, request: PredictRequest) -> None:
        self._request = request
        self._made: dict[Path, Predictor] = {}
        self._named: DoseModel | None = None
        if request.model is not None:
            from ..models.dose_model import DoseModel

            self._named = DoseModel.load(request.model)
            self._named.require("dose")
            self._predictor(self._named)

    def of(self, case: Case) -> Predictor:
        """For a case; `--map` may speak of any protocol's channels."""
        from ..inference.predictor import default_model

        model = self._named or default_model(case, self._request.mapping.of())
        if self._request.output.spread and len(model.members) < 2:
            raise ModelError(
                f"{model.manifest.name} is a single network, whose dose has no spread. Choose an "
                "ensemble (models combine), or leave out --spread."
            )
        return self._predictor(model)

    def _predictor(self, model: DoseModel) -> Predictor:
        from ..inference.predictor import Predictor

        if model.folder not in self._made:
            request = self._request
            if request.output.calibration is not None:  # refused before work starts
                model_calibration(model, request.output.calibration)
            _require_inputs(model, request)
            self._made[model.folder] = Predictor(model, request.device, request.precision)
        return self._made[model.folder]


def _require_inputs(model: DoseModel, request: PredictRequest) -> None:
    """Refuse beams and goals that were chosen for a model without such inputs.

    Raises:
        ModelError: names the option.
    """
    chosen = request.beams.arrangement is not None and not request.deliverable
    if chosen and beam_inputs(model.manifest.encoding) is None:
        raise ModelError(
            f"{model.manifest.name} does not take beams: its dose would stay the same. Leave out "
            "--beams, or choose a model that knows beams (see its card: models)."
        )
    request.wishes.require_taken_by(model.manifest)
