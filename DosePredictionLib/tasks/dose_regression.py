"""The dose of a good plan, as the mean of what such plans reach.

Losses and scores are imported where training needs them: prediction starts sooner and smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..case import Prescription
from ..encoding.encoder import decode
from ..encoding.prescription import prescription_factor
from ..errors import PredictionError
from ..external import dose_region
from ..findings import Finding
from ..models.expectations import ModelExpectations
from ..networks import TwoStageDose
from ..prediction import Output
from ..structures.bound import BoundCase
from ..volume import Volume
from .task import (
    Combined,
    Decoded,
    Decoding,
    LabelledBatch,
    LabelledCase,
    Passes,
    Task,
    Validated,
)

if TYPE_CHECKING:
    from ..losses import LossTerm, WeightedLoss

__all__ = ["DoseRegression", "final_dose", "prescription_scale", "scored_dose_gy"]

_DOSE, _COARSE = "dose", "coarse"


def final_dose(predicted: TwoStageDose) -> Tensor:
    """The final dose `(z, y, x)`, float32, of the first patient of a batch."""
    return predicted.final[0, 0].float()


def _both_doses(predicted: TwoStageDose) -> Tensor:
    """Final and coarse dose, `(2, z, y, x)`."""
    if predicted.coarse is None:
        raise PredictionError("This model has one stage: there is no coarse dose to keep.")
    return torch.cat([predicted.final[0], predicted.coarse[0]]).float()


class DoseRegression(Task):
    """A `DoseNetwork` maps CT, structures and strips to a dose, in units of the dose scale.

    Labels: `dose`, `region` (where it is scored), `structures` and `strips` (masks in the
    protocol's and the encoding's order).
    """

    stages: ClassVar[Mapping[str, str]] = {
        "": "dose",
        "stage1": "coarse dose",
        "stage2": "final dose",
    }
    unit: ClassVar[str] = "Gy"

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """The final dose, and the coarse one if it is asked for; averaged with the mirrored one.

        Raises:
            PredictionError: the coarse dose is asked of a network of one stage.
        """
        pick = _both_doses if "coarse dose" in passes.keep else final_dose
        count = 1 if passes.mirrored is None else 2
        with passes.watch(network, count, self.stages, (0.0, 1.0)):
            dose = passes.run(network, x, pick)
            if passes.mirrored is not None:
                mirrored = x[:, passes.mirrored].flip(-1)
                dose = (dose + passes.run(network, mirrored, pick).flip(-1)) / 2
        return {_DOSE: dose} if dose.dim() == 3 else {_DOSE: dose[0], _COARSE: dose[1]}

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """Gy on the case's grid, scaled to its prescription; ≥ 0, and 0 outside `dose_region`."""
        case = decoding.bound.case
        scale, target, findings = prescription_scale(
            decoding.bound.prescription, decoding.expectations
        )
        unit_gy = np.float32(self.encoding.dose_scale_gy * scale)

        def volume(values: NDArray[np.float32]) -> Volume:
            return decode(values * unit_gy, decoding.encoded, case, decoding.between)

        mean, spread = arrays[_DOSE]
        outputs = [Output("dose", volume(mean), "dose", "Gy")]
        if _COARSE in arrays:
            outputs.append(Output("coarse", volume(arrays[_COARSE].mean), "coarse dose", "Gy"))
        if spread is not None:
            outputs.append(Output("spread", volume(spread), "spread", "Gy"))
        return Decoded(tuple(outputs), target, findings)

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Make the weighted sum of the recipe's terms."""
        from ..losses import WeightedSum

        super().begin_training(terms, options)
        self._loss = WeightedSum(terms)

    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        """The weighted sum of the recipe's losses."""
        from ..losses import LossInput

        predicted = self.predicted(network, batch)
        labels, channels = batch.labels, self.protocol.inputs
        judged = LossInput(
            prediction=predicted.final,
            coarse=predicted.coarse,
            reference=labels["dose"],
            region=labels["region"],
            structures=labels["structures"],
            names=[channel.name for channel in channels],
            roles=[channel.role for channel in channels],
            dose_scale_gy=self.encoding.dose_scale_gy,
            strips=labels["strips"],
            spacing_mm=batch.spacing_mm,
        )
        weighted: WeightedLoss = self._loss(judged, progress=progress)
        return weighted

    def predicted(self, network: nn.Module, batch: LabelledBatch) -> TwoStageDose:
        """What a network in training predicts for a batch."""
        doses: TwoStageDose = network(batch.input)
        return doses

    def headline(self, parts: Mapping[str, Tensor]) -> float:
        """The first part of the loss, Gy."""
        return super().headline(parts) * self.encoding.dose_scale_gy

    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        """Dose score, and the errors of the scored DVH endpoints, Gy."""
        from ..evaluation.scores import dose_score, dvh_score_terms

        bound, plan = case.bound, case.bound.case.plan_dose
        assert plan is not None
        dose_gy = self.dose_gy(
            self.arrays_of(network, case.input, case.earlier), case.prescription_factor
        )
        dose_gy = scored_dose_gy(dose_gy, bound)
        dose = Volume(dose_gy, bound.case.grid)
        score = dose_score(dose, plan, bound.region)
        assert score is not None
        terms = dvh_score_terms(
            dose,
            plan,
            {name: structure.mask for name, structure in bound.structures.items()},
            targets=bound.named("target"),
            organs=bound.named("organ"),
        )
        figures = {"validation_mae_gy": [score], "validation_dvh_gy": list(terms.values())}
        return Validated(figures, dose_gy)

    def dose_gy(
        self, arrays: Mapping[str, NDArray[np.float32]], prescription_factor: float = 1.0
    ) -> NDArray[np.float32]:
        """The final dose."""
        return arrays[_DOSE] * np.float32(self.encoding.dose_scale_gy * prescription_factor)


def scored_dose_gy(dose_gy: NDArray[np.float32], bound: BoundCase) -> NDArray[np.float32]:
    """A dose on the case's own grid as prediction writes it: ≥ 0, and 0 outside `dose_region`."""
    return np.clip(dose_gy, 0, None) * dose_region(bound.external, bound.case.dose_mask)


def prescription_scale(
    prescription: Prescription | None, expected: ModelExpectations
) -> tuple[float, Prescription, tuple[Finding, ...]]:
    """By what a single-level model's dose is scaled, the prescription that results, and why."""
    own = Prescription(expected.prescription_gy, expected.fractions)
    if prescription is None:
        message = f"The case has no prescription; the model's own is used ({_levels(own)})."
        return 1.0, own, (Finding("prescription-of-model", "info", message),)
    factor = prescription_factor(prescription.highest_gy, own.target_gy)
    if factor == 1.0:
        return 1.0, prescription, ()
    finding = Finding(
        "dose-scaled",
        "info",
        f"The dose is scaled by {factor:.3f}: from the model's {own.highest_gy:g} Gy to the "
        f"case's {prescription.highest_gy:g} Gy.",
    )
    return factor, prescription, (finding,)


def _levels(prescription: Prescription) -> str:
    return ", ".join(f"{name} {gy:g} Gy" for name, gy in prescription.target_gy.items())
