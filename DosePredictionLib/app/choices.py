"""What a person chooses beside the files: structures for channels, prescription, goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..beams.arrangement import SENSE, BeamArrangement, parse_beams
from ..case import Case, Prescription
from ..encoding.wishes import wish_inputs
from ..errors import CaseError, DosePredictionError, MappingError, ModelError
from ..schema import read_json
from ..structures.mapping_files import parse_map_option, read_mapping
from ..structures.protocol import StructureProtocol
from ..wishes import Wish

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet
    from ..models.manifest import ModelManifest

__all__ = ["BeamsChoice", "MappingChoice", "PrescriptionChoice", "WishesChoice", "chosen_goals"]


@dataclass(frozen=True)
class MappingChoice:
    """Which structure fills which channel where the automatic choice is overruled.

    Args:
        channels: channel → structure, None to leave it empty; goes before the file.
        file: a mapping file, as the panel saves it.
    """

    channels: Mapping[str, str | None] = field(default_factory=dict)
    file: Path | None = None

    @classmethod
    def parse(cls, options: Sequence[str], file: Path | None = None) -> MappingChoice:
        """From texts such as "PTV=PTV_4500".

        Raises:
            MappingError: one cannot be read.
        """
        return cls(dict(parse_map_option(option) for option in options), file)

    @property
    def protocol(self) -> str | None:
        """Id of the protocol that the file is for.

        Raises:
            MappingError: the file cannot be read.
        """
        if self.file is None:
            return None
        content = read_json(self.file, MappingError)
        protocol = content.get("protocol") if isinstance(content, dict) else None
        if protocol is not None and not isinstance(protocol, str):
            raise MappingError(f"{self.file}: protocol must be an id such as 'pelvis', a text.")
        return protocol

    def of(self, protocol: StructureProtocol | None = None) -> dict[str, str | None]:
        """Channel → structure for a protocol; None: for the file's own.

        Raises:
            MappingError: the file cannot be read, or is for another protocol.
        """
        chosen: dict[str, str | None] = {}
        if self.file is not None:
            named = protocol or self._own_protocol(self.file)
            chosen.update(read_mapping(self.file, named))
        return {**chosen, **self.channels}

    def _own_protocol(self, file: Path) -> StructureProtocol:
        if self.protocol is None:
            raise MappingError(
                f'{file} names no protocol: expected an object such as {{"protocol": "pelvis", '
                '"channels": {"PTV": "PTV_45"}}.'
            )
        try:
            return StructureProtocol.load(self.protocol)
        except DosePredictionError as exception:
            raise MappingError(f"{file}: {exception}") from exception


@dataclass(frozen=True)
class PrescriptionChoice:
    """What goes before the case's own prescription; empty: nothing."""

    target_gy: Mapping[str, float] = field(default_factory=dict)
    fractions: int | None = None

    @classmethod
    def parse(cls, options: Sequence[str], fractions: int | None = None) -> PrescriptionChoice:
        """From texts such as "PTV=50.4".

        Raises:
            CaseError: one cannot be read.
        """
        targets: dict[str, float] = {}
        for option in options:
            target, separator, dose = option.partition("=")
            try:
                targets[target.strip()] = float(dose)
            except ValueError:
                separator = ""
            if not separator or not target.strip():
                raise CaseError(f"--prescription takes TARGET=GY, as in PTV=50.4; got {option!r}.")
        return cls(targets, fractions)

    def of(self, case: Case) -> Prescription | None:
        """The prescription of a case; None: its own stays."""
        own = case.prescription
        if not self.target_gy and self.fractions is None:
            return None
        targets = {**(own.target_gy if own else {}), **self.target_gy}
        fractions = self.fractions if self.fractions is not None else own.fractions if own else None
        return Prescription(targets, fractions, own.technique if own else None)


@dataclass(frozen=True)
class BeamsChoice:
    """Which beams go before the case's own; None: none do."""

    arrangement: BeamArrangement | None = None

    @classmethod
    def parse(cls, text: str | None) -> BeamsChoice:
        """From a text such as "nine-field" or "0,40,80".

        Raises:
            CaseError: it cannot be read, or is no arrangement.
        """
        return cls(None if text is None else parse_beams(text))

    def of(self, case: Case) -> Case:
        """The case with the chosen beams, for a patient who lies as it states."""
        if self.arrangement is None:
            return case
        stated = case.origin.patient_position if case.origin is not None else ""
        if case.beams is not None:
            stated = case.beams.patient_position
        beams = self.arrangement
        if stated in SENSE:
            beams = replace(beams, patient_position=stated)  # type: ignore[arg-type]
        return replace(case, beams=beams)


@dataclass(frozen=True)
class WishesChoice:
    """What is wished of the organs before the case's own wishes; empty: nothing."""

    wishes: tuple[Wish, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> WishesChoice:
        """From texts such as "Rectum V40Gy <= 25 %".

        Raises:
            DosePredictionError: one cannot be read, or is no upper limit of a V_d in percent.
        """
        if not texts:
            return cls()
        from ..planning.wishes import parse_wish

        wishes = []
        for text in texts:
            goal = parse_wish(text)
            metric, dose_gy = goal.metric, float(goal.metric.amount or 0.0)
            limits = metric.kind == "volume" and metric.unit == "%" and not metric.of_prescription
            if not limits or goal.comparison not in ("<", "<=") or not dose_gy or goal.limit > 100:
                raise DosePredictionError(
                    "A model takes upper limits of a volume in percent, as in 'Rectum V40Gy <= "
                    f"25 %'; got --goal {text!r}."
                )
            wishes.append(Wish(goal.structure, dose_gy, goal.limit))
        return cls(tuple(wishes))

    def of(self, case: Case) -> Case:
        """The case with the chosen wishes in the place of its own."""
        return replace(case, wishes=self.wishes) if self.wishes else case

    def require_taken_by(self, manifest: ModelManifest) -> None:
        """Refuse wishes that were chosen for a model whose dose would stay the same.

        A case's own wishes are left alone by such a model.

        Raises:
            ModelError: it takes none.
        """
        if self.wishes and wish_inputs(manifest.encoding) is None:
            raise ModelError(
                f"{manifest.name} does not take goals: its dose would stay the same. Leave out "
                "--goal, or choose a model that knows goals (see its card: models)."
            )


def chosen_goals(name: str) -> GoalSet | Literal["default"] | None:
    """The goals of a name: a shipped set, a file's, `none`, or `default`, which the case decides.

    Raises:
        DosePredictionError: there is no such set, or the file cannot be read.
    """
    if name in ("default", "none"):
        return "default" if name == "default" else None
    from ..evaluation.goals import GoalSet

    return GoalSet.load(name)
