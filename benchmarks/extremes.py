"""Lowest and highest doses beside those that planning systems state.

    python -m benchmarks.extremes FOLDER

FOLDER holds, as SlicerRT's and dicompyler-core's test data have them, `pelvis` (the RANDO plan) and
`extern` (`EclipseProstate_DvhTable_Eclipse.csv`, `slicerrt_ent`, `slicerrt_ent_doses`,
`dicompyler_breast_watered`). A DVH table ends between two of its steps, so an extreme is known to a
step; the breast's are the numbers in its RTDOSE.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from DosePredictionLib.case import Case
from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.io import read_case
from DosePredictionLib.io.doses import read_dose
from DosePredictionLib.volume import Volume

__all__ = ["TOLERANCE_GY", "Extremes", "compared", "main"]

TOLERANCE_GY = 0.5


class Extremes(NamedTuple):
    """Of one structure, Gy; `system` is what the planning system has."""

    plan: str
    structure: str
    volume_cc: float
    ours: tuple[float, float]
    system: tuple[float, float]

    @property
    def off_gy(self) -> float:
        """The larger of the two differences."""
        return max(abs(a - b) for a, b in zip(self.ours, self.system, strict=True))


def main() -> None:
    """Print every structure, and count those that are out of tolerance."""
    if len(sys.argv) < 2:
        sys.stdout.write("extremes: needs the folder of planning systems' data; skipped\n")
        return
    found = list(compared(Path(sys.argv[1])))
    for each in found:
        mark = "" if each.off_gy <= TOLERANCE_GY else "  <-- out of tolerance"
        sys.stdout.write(
            f"{each.plan:<8}{each.structure:<26}{each.volume_cc:9.1f} cc   "
            f"min {each.ours[0]:6.2f} ({each.system[0]:6.2f})   "
            f"max {each.ours[1]:6.2f} ({each.system[1]:6.2f}) Gy{mark}\n"
        )
    out = sum(each.off_gy > TOLERANCE_GY for each in found)
    sys.stdout.write(f"{len(found) - out} of {len(found)} within {TOLERANCE_GY} Gy\n")


def compared(data: Path) -> Iterator[Extremes]:
    """Each structure that the planning system and the files both have."""
    extern = data / "extern"
    rando = read_case(data / "pelvis" / "eclipse_rando_prostate_dicom")
    table = _of_table(extern / "EclipseProstate_DvhTable_Eclipse.csv")
    yield from _matched("RANDO", rando, rando.plan_dose, table)
    ent = read_case(extern / "slicerrt_ent")
    table = _of_table(extern / "slicerrt_ent_doses" / "EclipseEnt_DvhTable_Eclipse.csv")
    dose, _ = read_dose(extern / "slicerrt_ent_doses" / "day1.nrrd", ent.grid, {})
    yield from _matched("ENT", ent, dose, table)
    folder = extern / "dicompyler_breast_watered"
    breast = read_case(folder)
    yield from _matched("breast", breast, breast.plan_dose, _of_rtdose(folder))


def _matched(
    plan: str, case: Case, dose: Volume | None, stated: Mapping[str, tuple[float, float]]
) -> Iterator[Extremes]:
    assert dose is not None
    by_name = {_plain(name): name for name in case.structures}
    wanted = {by_name[_plain(name)]: name for name in stated if _plain(name) in by_name}
    curves = dvhs(dose, {name: case.structures[name] for name in wanted})
    for name, curve in curves.items():
        if curve.min_gy is not None and curve.max_gy is not None:
            ours = (curve.min_gy, curve.max_gy)
            yield Extremes(plan, name, curve.volume_cc, ours, stated[wanted[name]])


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _of_table(path: Path) -> dict[str, tuple[float, float]]:
    """Structure → lowest and highest dose of a table of cumulative DVHs, to a step."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    found = {}
    for column in range(0, len(head) - 1, 2):
        pairs = [(row[column], row[column + 1]) for row in rows if len(row) > column + 1]
        numbers = np.array([[float(a), float(b)] for a, b in pairs if a and b])
        doses, shares = numbers.T
        whole, nothing = doses[shares >= shares[0]], doses[shares <= 0]
        highest = nothing[0] if nothing.size else doses[-1]
        found[head[column].removesuffix("_DvhArray Dose (Gy)")] = (
            float(whole[-1]),
            float(highest),
        )
    return found


def _of_rtdose(folder: Path) -> dict[str, tuple[float, float]]:
    """Structure → `DVHMinimumDose` and `DVHMaximumDose` of the plan's RTDOSE, Gy.

    They say GY and are percent of the 14 Gy that the plan prescribes: the dose itself ends at 14.7.
    """
    plan = pydicom.dcmread(folder / "rtplan.dcm")
    unit_gy = float(plan.DoseReferenceSequence[0].TargetPrescriptionDose) / 100
    names = {
        int(item.ROINumber): str(item.ROIName)
        for item in pydicom.dcmread(folder / "rtss.dcm").StructureSetROISequence
    }
    return {
        names[int(item.DVHReferencedROISequence[0].ReferencedROINumber)]: (
            float(item.DVHMinimumDose) * unit_gy,
            float(item.DVHMaximumDose) * unit_gy,
        )
        for item in pydicom.dcmread(folder / "rtdose.dcm").DVHSequence
    }


if __name__ == "__main__":
    main()
