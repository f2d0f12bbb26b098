from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import OBLIQUE, pelvis_case

from DosePredictionLib.app.bands import Bands
from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.errors import CaseError, GeometryError, ModelError, WorkerError
from DosePredictionLib.evaluation.evaluate import EvaluationParts, evaluate
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.findings import Finding
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import ModelFolder
from DosePredictionLib.prediction import Output, Prediction
from DosePredictionLib.structures.mapping import map_structures
from DosePredictionLib.volume import Grid, Volume
from DosePredictionLib.worker.exchange import (
    CaseReader,
    CaseWriter,
    new_scratch,
    read_exchanged_case,
    read_prediction,
    write_case,
    write_prediction,
)
from DosePredictionLib.worker.measured import read_bands, read_measures


def full_case() -> Case:
    """Everything that a case may hold, on an oblique grid with three spacings and odd sizes."""
    case = pelvis_case((41, 33, 23), (9.0, 10.0, 11.0), OBLIQUE)
    body = case.structures["Body"]
    soft = body.with_array(body.array.astype(np.float32) * np.float32(0.25))
    return replace(
        case,
        name="Prüfung \udcff",
        structures={**case.structures, "Röntgen/../PTV": soft},
        dose_mask=body,
        strips={0: body, 45: case.structures["PTV"]},
        prescription=Prescription({"PTV": 50.4}, 28, "VMAT"),
        findings=(Finding("seen", "warning", "Ü", "do", "PTV", (1.0, -2.0, 3.5)),),
    )


def same(one: Volume | None, other: Volume | None) -> bool:
    assert one is not None and other is not None
    return one.grid == other.grid and np.array_equal(one.array, other.array)


def test_a_case_comes_back_as_it_went(tmp_path: Path) -> None:
    case = full_case()
    back = read_exchanged_case(write_case(tmp_path / "ü \udcff" / "case", case))
    assert (back.name, back.grid) == (case.name, case.grid)
    assert back.prescription == case.prescription and back.findings == case.findings
    assert list(back.structures) == list(case.structures)
    assert all(same(back.structures[name], mask) for name, mask in case.structures.items())
    assert all(back.structures[n].array.dtype == m.array.dtype for n, m in case.structures.items())
    assert same(back.ct, case.ct) and back.ct.array.dtype == case.ct.array.dtype
    assert same(back.plan_dose, case.plan_dose) and same(back.dose_mask, case.dose_mask)
    assert back.strips is not None and case.strips is not None
    assert {a: same(mask, case.strips[a]) for a, mask in back.strips.items()} == {0: True, 45: True}


def test_an_empty_mask_and_the_whole_grid_come_back(tmp_path: Path) -> None:
    case = pelvis_case()
    empty, full = (Mask(np.full(case.grid.shape, value), case.grid) for value in (False, True))
    case = replace(case, structures={"nothing": empty, "all": full, **case.structures})
    back = read_exchanged_case(write_case(tmp_path / "case", case))
    assert back.structures["nothing"].is_empty and back.structures["all"].array.all()
    assert same(back.structures["PTV"], case.structures["PTV"])


def test_what_was_read_is_linked_and_known_again(tmp_path: Path) -> None:
    first = write_case(tmp_path / "first", full_case())
    reader = CaseReader()
    case = reader.read(first)
    other = case.structures["PTV"].as_binary()
    cut = Mask.of_block(other.block[1:], _cut(other), case.grid)
    edited = replace(case, structures={**case.structures, "PTV": cut})
    second = write_case(tmp_path / "second", edited)
    shared = {path.name for path in second.iterdir() if path.stat().st_nlink == 2}
    assert shared == {path.name for path in first.glob("*.npy")} - {_file_of(second, "PTV")}
    again = reader.read(second)
    assert again.ct is case.ct and again.plan_dose is case.plan_dose
    kept = {name for name, mask in again.structures.items() if mask is case.structures[name]}
    assert kept == set(case.structures) - {"PTV"}
    assert same(again.structures["PTV"], cut)


def test_a_folder_that_has_gone_is_written_anew(tmp_path: Path) -> None:
    first = write_case(tmp_path / "first", full_case())
    case = read_exchanged_case(first)
    shutil.rmtree(first)
    back = read_exchanged_case(write_case(tmp_path / "second", case))
    assert same(back.ct, case.ct) and same(back.plan_dose, case.plan_dose)
    assert all(same(back.structures[name], mask) for name, mask in case.structures.items())


def test_a_file_that_was_written_over_is_read_again(tmp_path: Path) -> None:
    folder, reader = write_case(tmp_path / "case", pelvis_case()), CaseReader()
    before = reader.read(folder)
    np.save(folder / "ct.npy", before.ct.array + before.ct.array.dtype.type(1))
    after = reader.read(folder)
    assert after.ct is not before.ct and after.structures["PTV"] is before.structures["PTV"]


def _cut(mask: Mask) -> tuple[slice, slice, slice]:
    """Its box without the first slice."""
    box = mask.bounding_box()
    assert box is not None
    return (slice(box[0].start + 1, box[0].stop), box[1], box[2])


def _file_of(folder: Path, structure: str) -> str:
    record = json.loads((folder / "case.json").read_text(encoding="ascii"))
    return str(record["structures"][structure]["file"])


def test_a_case_without_its_last_step_is_none(tmp_path: Path) -> None:
    case = pelvis_case()
    writer = CaseWriter(tmp_path / "case", "p", case.grid)
    with pytest.raises(CaseError, match="no CT"):
        writer.finish()
    writer.ct(case.ct)
    with pytest.raises(CaseError, match="no structures"):
        writer.finish()
    with pytest.raises(WorkerError, match="cannot be read"):
        read_exchanged_case(tmp_path / "case")


def test_what_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    case = pelvis_case()
    writer = CaseWriter(tmp_path / "case", "p", case.grid)
    with pytest.raises(GeometryError, match="shape"):
        writer.ct(
            Volume(
                case.ct.array[1:],
                replace(case.grid, size=(*case.grid.size[:2], case.grid.size[2] - 1)),
            )
        )
    writer.structure("PTV", case.structures["PTV"])
    with pytest.raises(CaseError, match="Two structures"):
        writer.structure("PTV", case.structures["PTV"])
    writer.ct(case.ct)
    writer.finish()
    with pytest.raises(WorkerError, match="another folder"):
        CaseWriter(tmp_path / "case", "p", case.grid)


@pytest.mark.parametrize("name", ["ct.npy", "structure_000.npy"])
def test_a_truncated_array_is_an_error(tmp_path: Path, name: str) -> None:
    folder = write_case(tmp_path / "case", pelvis_case())
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CaseError, match=name):
        read_exchanged_case(folder)
    path.unlink()
    with pytest.raises(CaseError, match=name):
        read_exchanged_case(folder)


def test_a_pickle_in_place_of_an_array_is_never_opened(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", pelvis_case())
    np.save(folder / "ct.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CaseError, match="cannot be read"):
        read_exchanged_case(folder)


def full_prediction(case: Case, model: DoseModel) -> Prediction:
    dose = case.ct.with_array(np.abs(case.ct.array).astype(np.float32) / 20)
    body = case.structures["Body"]
    return Prediction(
        case=case,
        model=model,
        outputs=(
            Output("dose", dose, "dose", "Gy"),
            Output("coarse", dose.with_array(dose.array * 2), "coarse dose", "Gy"),
            Output("spread", dose.with_array(dose.array / 9), "spread", "Gy"),
        ),
        mapping=map_structures([n for n in case.structures if "/" not in n], model.protocol),
        prescription=Prescription({"PTV": 45.0}),
        external=body,
        findings=case.findings,
        fallbacks=("slabs",),
        device="cpu",
        precision="fp32",
        seconds={"inference": 1.5, "total": 2.0},
        strips={0: body, 135: case.structures["PTV"]},
    )


def test_a_prediction_comes_back_as_it_went(tmp_path: Path, pelvis_model: DoseModel) -> None:
    case = full_case()
    prediction = full_prediction(case, pelvis_model)
    write_prediction(tmp_path / "p", prediction, {"read": 0.5})
    back = read_prediction(tmp_path / "p", case)
    assert same(back.dose, prediction.dose) and same(back.coarse, prediction.coarse)
    assert same(back.spread, prediction.spread)
    assert same(back.external, prediction.external)
    assert back.strips is not None and list(back.strips) == [0, 135]
    assert same(back.strips[135], case.structures["PTV"])
    assert back.model == ModelFolder(pelvis_model.folder, pelvis_model.manifest)
    assert back.seconds == {"read": 0.5, "inference": 1.5, "total": 2.5}
    for name in ("mapping", "prescription", "findings", "fallbacks", "device", "precision"):
        assert getattr(back, name) == getattr(prediction, name)
    plain = replace(prediction, outputs=prediction.outputs[:1], strips=None)
    write_prediction(tmp_path / "q", plain)
    assert read_prediction(tmp_path / "q", case).coarse is None
    assert read_prediction(tmp_path / "q", case).spread is None
    assert read_prediction(tmp_path / "q", case).strips is None


def test_its_numbers_come_back_as_they_went(tmp_path: Path, pelvis_model: DoseModel) -> None:
    case = full_case()
    prediction = full_prediction(case, pelvis_model)
    for folder, plan in (("with", case.plan_dose), ("without", None)):
        goals = GoalSet.load("pelvis_nodal_45_50")
        parts = EvaluationParts(reference=plan, goals=goals)
        measures = evaluate(prediction.bound, prediction.dose, parts)
        write_prediction(tmp_path / folder, prediction, measures=measures)
        back = read_measures(tmp_path / folder)
        for name in ("predicted", "planned", "body", "targets", "external", "evaluation"):
            assert getattr(back, name) == getattr(measures, name)  # all but the curves
        assert back.as_json() == measures.as_json()
        assert back.judged(goals).goal_records == measures.goal_records
        assert (back.planned is None) == (plan is None)
        for key, curve in measures.predicted.items():
            again = back.predicted[key].curve
            assert curve.curve is not None and again is not None
            assert np.array_equal(again.dose_gy, curve.curve.dose_gy)
            assert np.array_equal(again.volume, curve.curve.volume)
    assert read_bands(tmp_path / "with") == Bands()
    known = Bands(None, "The model was calibrated for another prescription.")
    write_prediction(tmp_path / "known", prediction, measures=measures, bands=known)
    assert read_bands(tmp_path / "known") == known
    (tmp_path / "known" / "bands.json").write_text('{"content": 3}')
    with pytest.raises(WorkerError, match="content"):
        read_bands(tmp_path / "known")
    (tmp_path / "with" / "measures.json").write_text("{}")
    with pytest.raises(WorkerError, match="lacks"):
        read_measures(tmp_path / "with")


def test_a_prediction_is_there_whole_or_not_at_all(tmp_path: Path, pelvis_model: DoseModel) -> None:
    case = full_case()
    prediction = full_prediction(case, pelvis_model)
    other = Grid((2, 2, 2))
    broken = replace(prediction, external=Volume(np.zeros(other.shape, bool), other))
    with pytest.raises(GeometryError):
        write_prediction(tmp_path / "out" / "p", broken)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_that_has_gone_is_named(tmp_path: Path, pelvis_model: DoseModel) -> None:
    case = full_case()
    gone = ModelFolder(tmp_path / "gone", pelvis_model.manifest)
    write_prediction(tmp_path / "p", replace(full_prediction(case, pelvis_model), model=gone))
    with pytest.raises(ModelError, match="gone"):
        read_prediction(tmp_path / "p", case)


def test_a_temporary_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(WorkerError, match="TMPDIR"):
        new_scratch()


def test_only_the_user_reads_what_is_exchanged() -> None:
    scratch = new_scratch()
    try:
        assert os.name == "nt" or scratch.stat().st_mode & 0o077 == 0
    finally:
        scratch.rmdir()


def test_a_case_of_usual_size_is_exchanged_in_well_under_half_a_second(tmp_path: Path) -> None:
    grid = Grid((256, 256, 64), (2.0, 2.0, 5.0))
    random = np.random.default_rng(0)
    noise = random.random(grid.shape, dtype=np.float32)
    ct = Volume((noise * 1000).astype(np.int16), grid)
    masks = {f"mask {i}": Volume(noise > i / 10, grid) for i in range(9)}
    case = Case("usual", ct, masks, plan_dose=Volume(noise, grid))
    started = time.process_time()  # a busy machine's other work does not count
    folder = write_case(tmp_path / "case", case)
    back = read_exchanged_case(folder)
    assert time.process_time() - started < 0.5
    assert same(back.structures["mask 3"], masks["mask 3"])
