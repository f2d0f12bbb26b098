"""What a prediction is: named volumes, and how they came about.

Without torch, so that a window can hold one that another process made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .case import Case, Prescription
from .errors import PredictionError
from .findings import Finding
from .mask import Mask
from .models.manifest import ModelFolder
from .structures.bound import BoundCase
from .structures.mapping import StructureMapping
from .volume import Grid, Volume

__all__ = ["ROLES", "Output", "OutputRole", "OutputUnit", "Prediction", "RoleProperties"]

OutputRole = Literal[
    "dose",
    "coarse dose",
    "spread",
    "expected error",
    "sample",
    "lower",
    "upper",
    "probability",
    "segment",
]
"""What a volume is, for everything that writes or shows it.

`dose`: the predicted dose. `coarse dose`: an intermediate dose of lower detail. `spread`: the
standard deviation of several predictions. `expected error`: the mean of |plan − dose| that such a
place had in patients whom the model had not seen. `sample`: one of several drawn predictions.
`lower`, `upper`: ends of an interval that holds the share `level`. `probability`: 0…1. `segment`: a
mask.
"""

OutputUnit = Literal["Gy", "probability", "none"]


class RoleProperties(NamedTuple):
    """What is the same for every output of a role.

    Args:
        label: how a person reads it.
        units: those that it may have.
        is_dose_like: whether it is a dose that a patient could receive, drawn in a dose's colors;
            if its unit is Gy.
    """

    label: str
    units: tuple[OutputUnit, ...]
    is_dose_like: bool = False


ROLES: Mapping[OutputRole, RoleProperties] = {
    "dose": RoleProperties("predicted dose", ("Gy",), True),
    "coarse dose": RoleProperties("coarse dose", ("Gy",), True),
    "spread": RoleProperties("spread of the prediction", ("Gy", "probability")),
    "expected error": RoleProperties("expected error", ("Gy",)),
    "sample": RoleProperties("sample", ("Gy", "probability"), True),
    "lower": RoleProperties("lower bound", ("Gy", "probability"), True),
    "upper": RoleProperties("upper bound", ("Gy", "probability"), True),
    "probability": RoleProperties("probability", ("probability",)),
    "segment": RoleProperties("segment", ("none",)),
}

_KEY = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Windows opens a device for a file of these names, whatever its suffix (also com1 … lpt9).
_DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")


@dataclass(frozen=True, eq=False)
class Output:
    """One volume of a prediction.

    Args:
        key: its name within the prediction, safe as a file's name: lower-case letters, digits and
            underscores.
        volume: on the CT's own grid: float32, or boolean for a segment.
        role: what it is.
        unit: of its values.
        structure: what it is about, by the name of results; None: the whole.
        level: of `lower` and `upper`: the share that the interval holds, 0…1.
        member: of several alike: the number of the sample or of the network.

    Raises:
        PredictionError: the key is no safe name, the role or the unit is unknown, or they do not
            fit each other.
    """

    key: str
    volume: Volume
    role: OutputRole
    unit: OutputUnit
    structure: str | None = None
    level: float | None = None
    member: int | None = None

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key) or _DEVICE.fullmatch(self.key):
            raise PredictionError(
                f"{self.key!r} cannot name an output: use lower-case letters, digits and "
                "underscores, a letter first, and no name of a Windows device (con, nul, com1 …)."
            )
        if self.role not in ROLES:
            raise PredictionError(
                f"The output {self.key} has the role {self.role!r}, none of {', '.join(ROLES)}."
            )
        if self.unit not in ROLES[self.role].units:
            units = " or ".join(ROLES[self.role].units)
            raise PredictionError(
                f"The output {self.key} has the unit {self.unit!r}; a {self.role} has {units}."
            )
        if self.level is not None and not 0 < self.level < 1:
            raise PredictionError(
                f"The output {self.key} has the level {self.level}; a level lies between 0 and 1."
            )

    @property
    def is_dose_like(self) -> bool:
        """Whether it is a dose in Gy, to be drawn as one."""
        return self.unit == "Gy" and ROLES[self.role].is_dose_like

    @property
    def label(self) -> str:
        """How a person reads it: "upper bound (90 %)", "segment Bladder", "sample 3"."""
        words = [ROLES[self.role].label]
        words += [] if self.member is None else [str(self.member)]
        words += [] if self.structure is None else [self.structure]
        words += [] if self.level is None else [f"({100 * self.level:g} %)"]
        return " ".join(words)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted volumes and how they came about.

    Args:
        outputs: what was predicted, on the CT's own grid; the first dose is the dose.
        mapping: which structure went into which channel, and why.
        prescription: what the dose was scaled to.
        external: the external contour that was used, on the CT's grid.
        findings: everything noticed from reading to the end, worst first.
        fallbacks: what was tried when memory ran out, in words.
        seconds: time of each step.
        strips: the strip masks that the network received, angle in degrees → mask on the CT's
            grid, if they were asked for.
        seed: of the first sample, if any were drawn.

    Raises:
        PredictionError: there is no output, two have one key, one that is not the dose is called
            "dose", or they lie on several grids.
    """

    case: Case
    model: ModelFolder
    outputs: tuple[Output, ...]
    mapping: StructureMapping
    prescription: Prescription
    external: Volume
    findings: tuple[Finding, ...]
    fallbacks: tuple[str, ...]
    device: str
    precision: str
    seconds: Mapping[str, float]
    strips: Mapping[int, Volume] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        keys = [output.key for output in self.outputs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if not keys or twice:
            what = f"two outputs called {', '.join(twice)}" if twice else "no output"
            raise PredictionError(
                f"The prediction of {self.case.name} has {what}; a task names each of its outputs "
                "once."
            )
        if any(output.key == "dose" for output in self.further):
            raise PredictionError(
                f"The prediction of {self.case.name} has an output called dose that is not its "
                "dose: the name belongs to the first output of that role."
            )
        for output in self.outputs:
            if not output.volume.grid.matches(self.grid):
                raise PredictionError(
                    f"The output {output.key} lies on {output.volume.grid}, {keys[0]} on "
                    f"{self.grid}: all lie on the CT's."
                )

    @property
    def grid(self) -> Grid:
        """The grid of every output: the CT's own."""
        return self.outputs[0].volume.grid

    @cached_property
    def main(self) -> Output:
        """The predicted dose.

        Raises:
            PredictionError: a dose is not what was predicted.
        """
        for output in self.outputs:
            if output.role == "dose":
                return output
        roles = ", ".join(dict.fromkeys(output.role for output in self.outputs))
        raise PredictionError(
            f"{self.model.manifest.name} predicts no dose, only {roles}. Choose a model of doses."
        )

    @property
    def dose(self) -> Volume:
        """The predicted dose, Gy, float32; raises as `main`."""
        return self.main.volume

    @property
    def further(self) -> tuple[Output, ...]:
        """Every output beside the dose."""
        main = next((output for output in self.outputs if output.role == "dose"), None)
        return tuple(output for output in self.outputs if output is not main)

    @property
    def coarse(self) -> Volume | None:
        """The coarse dose, Gy, if the model has one and it was asked for."""
        return self._first("coarse dose")

    @property
    def spread(self) -> Volume | None:
        """Standard deviation of an ensemble's doses, Gy; None for a single network."""
        return self._first("spread")

    def of_roles(self, roles: Iterable[OutputRole]) -> tuple[Output, ...]:
        """The outputs of these roles, in order."""
        wanted = set(roles)
        return tuple(output for output in self.outputs if output.role in wanted)

    def _first(self, role: OutputRole) -> Volume | None:
        return next((output.volume for output in self.of_roles([role])), None)

    @cached_property
    def bound(self) -> BoundCase:
        """What was decided about the case: for evaluation, reports and nodes."""
        return BoundCase(
            case=self.case,
            protocol=self.model.protocol,
            mapping=self.mapping,
            prescription=self.prescription,
            findings=self.findings,
            known_external=Mask.of(self.external),
        )
