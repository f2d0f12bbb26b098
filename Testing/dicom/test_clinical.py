"""Clinical cohorts: names proposed and corrected, case folders, the refused, resuming."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import save
from support import DICOM_SAMPLE

from DosePredictionLib.cli import main as dose_prediction
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.volume import Grid, Volume
from training.__main__ import main
from training.clinical import identifier, signed_distance


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own: the key lies there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cohort(patient: Path, tmp_path: Path) -> Path:
    """Three patients: two readable ones of two institutes, and one that is damaged."""
    root = tmp_path / "cohort"
    for number in (1, 2, 3):
        shutil.copytree(patient, root / f"Patient Name {number}")
        for file in (root / f"Patient Name {number}").glob("*.dcm"):
            dataset = pydicom.dcmread(file)
            dataset.PatientID = f"ID{number}"
            if dataset.Modality == "RTDOSE":  # 50 Gy in the target, as prescribed
                dataset.DoseGridScaling = 2.5 * float(dataset.DoseGridScaling)
            save(file, dataset)
    dataset = pydicom.dcmread(root / "Patient Name 2" / "rs.dcm")
    dataset.StructureSetROISequence[1].ROIName = "Patientenumriss"
    save(root / "Patient Name 2" / "rs.dcm", dataset)
    damaged = root / "Patient Name 3" / "rd.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    return root


def call(cohort: Path, output: Path, *more: str) -> int:
    options = ["--cases", str(cohort), "--output", str(output), "--workers", "1", *more]
    return main(["prepare-clinical", *options])


def correct(output: Path) -> None:
    content = json.loads((output / "names.json").read_text())
    content["channels"].update({"Body": "Body", "Patientenumriss": "Body", "PTV": "PTV"})
    (output / "names.json").write_text(json.dumps(content))


def test_a_cohort_becomes_case_folders_without_names(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "prepared"
    assert call(cohort, output) == 3
    proposed = json.loads((output / "names.json").read_text())
    assert proposed["channels"]["PTV"] == "PTV" and proposed["patients"]["PTV"] == 2
    assert "Correct it" in capsys.readouterr().out
    correct(output)
    assert call(cohort, output, "--goals", "prostate_78_39") == 3
    with (output / "refused.csv").open() as file:
        refused = list(csv.DictReader(file))
    key = (tmp_path / "home" / ".dose-prediction" / "clinical.key").read_bytes().strip()
    assert [row["pseudonym"] for row in refused] == [identifier(key, "folder", "Patient Name 3")]
    assert "is damaged" in refused[0]["reason"]
    stated = capsys.readouterr().err
    assert (
        f"{refused[0]['pseudonym']} in refused.csv is" in stated and "rd.dcm is damaged" in stated
    )
    folders = [path for path in output.iterdir() if path.is_dir()]
    assert len(folders) == 2
    expected = {identifier(key, f"ID{number}") for number in (1, 2)}
    assert {folder.name.split("-")[0] for folder in folders} == expected
    for folder in folders:
        case = read_case(folder)
        assert set(case.structures) == {"PTV", "Body"}
        assert case.prescription is not None and dict(case.prescription.target_gy) == {"PTV": 50.0}
        assert case.plan_dose is not None and case.plan_dose.array.max() == pytest.approx(75)
        plan = np.load(folder / "plan.npz")
        assert plan["beam1_leaves_mm"].shape == (3, 2, 2)
        assert plan["beam1_gantry_degrees"].tolist() == [180.1, 0.0, 179.9]
        assert plan["signed_distance"].shape == (2, 8, 24, 24)
        limits = plan["constraints"].tolist(), plan["constraint_values"]
        assert limits[0][0] == "PTV: D98% >= 95 %Rx" and np.isfinite(limits[1][0])
        assert (folder / "qa.png").stat().st_size > 10_000
        stated = b"".join(file.read_bytes() for file in folder.glob("*.json"))
        assert b"Patient" not in stated and b"ID1" not in stated


@pytest.mark.usefixtures("one_thread")
def test_from_dicom_folders_to_a_model_that_predicts_one(tmp_path: Path) -> None:
    cohort, prepared, run, models = (
        tmp_path / name for name in ("cohort", "prepared", "run", "models")
    )
    for number in (1, 2):
        shutil.copytree(DICOM_SAMPLE, cohort / str(number))
    for file in (cohort / "2").glob("*.dcm"):  # another patient with another plan
        dataset = pydicom.dcmread(file)
        dataset.PatientID = "another"
        if dataset.Modality == "RTDOSE":
            dataset.DoseGridScaling = f"{float(dataset.DoseGridScaling) * 0.9:.10f}"
        save(file, dataset)
    assert call(cohort, prepared) == 0
    assert call(cohort, prepared) == 0
    validation = tmp_path / "validation"
    validation.mkdir()
    held_out = next(path for path in prepared.iterdir() if path.is_dir())
    held_out.rename(validation / held_out.name)
    grid = {"kind": "fixed-spacing", "spacing_mm": [12, 12, 12]}
    settings = {
        "encoding": {"grid": grid, "dose_scale_gy": 50},
        "crop": [16, 16, 16],
        "steps": 2,
        "validate_every": 2,
        "network": {"stage1_filters": 2, "stage2_filters": 2},
    }
    recipe = ["--recipe", "published_pelvis"]
    for name, value in settings.items():
        recipe += ["--set", f"{name}={json.dumps(value)}"]
    cache = ["--output", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["prepare", *recipe, "--cases", str(prepared), *cache]) == 0
    data = ["--training", str(tmp_path / "cache"), "--validation", str(validation)]
    assert main(["train", *recipe, *data, "--output", str(run)]) == 0
    figures = tmp_path / "figures.json"
    evaluate = ["evaluate", "--run", str(run), "--cases", str(validation)]
    assert main([*evaluate, "--output", str(figures)]) == 0
    about = {"training": {"data": "phantoms", "cases": 1}, "licence": "MIT", "fractions": 25}
    about["prescription_gy"] = {"PTV": 46.0}
    (run / "data.json").write_text(json.dumps(about))
    named = ["--name", "mine", "--title", "Mine", "--output", str(models)]
    assert main(["export", "--run", str(run), *named]) == 0
    model = str(models / "mine")
    card = ["card", "--model", model, "--evaluation", str(figures), "--cases", "one phantom"]
    assert main(card) == 0
    assert DoseModel.load(model).manifest.validation["dose_score_gy"]["patients"] == 1
    patient, out = str(cohort / "1"), str(tmp_path / "out")
    predict = ["predict", patient, "--model", model, "--output", out, "--format", "rtdose"]
    assert dose_prediction(predict) == 0
    assert list((tmp_path / "out").rglob("dose*.dcm"))


def test_preparing_goes_on_where_it_stopped(cohort: Path, tmp_path: Path) -> None:
    output = tmp_path / "prepared"
    call(cohort, output)
    correct(output)
    call(cohort, output)
    times = {path: path.stat().st_mtime_ns for path in output.glob("*/ct.nii.gz")}
    shutil.rmtree(next(iter(times)).parent)
    call(cohort, output)
    again = {path: path.stat().st_mtime_ns for path in output.glob("*/ct.nii.gz")}
    assert set(again) == set(times)
    assert sum(times[path] == again[path] for path in times) == 1


def test_names_that_are_not_in_the_file_or_mean_one_channel_are_refused(
    cohort: Path, tmp_path: Path
) -> None:
    output = tmp_path / "prepared"
    call(cohort, output)
    content = json.loads((output / "names.json").read_text())
    content["channels"]["Body"] = "PTV"
    del content["channels"]["Patientenumriss"]
    (output / "names.json").write_text(json.dumps(content))
    assert call(cohort, output) == 3
    reasons = (output / "refused.csv").read_text()
    assert "both mean PTV" in reasons and "propose the names again" in reasons
    assert not [path for path in output.iterdir() if path.is_dir()]


def test_signed_distances_of_a_ball() -> None:
    grid = Grid((70, 70, 40), (2.0, 2.0, 3.0), (-69.0, -69.0, -58.5))
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    radius = np.linalg.norm(grid.world_from_index(np.stack([x, y, z], axis=-1)), axis=-1)
    distance = signed_distance(Volume(radius < 20, grid)).astype(float) * 50
    assert np.abs(distance - np.clip(radius - 20, -50, 50)).max() < 2.5
    assert distance.max() == 50 and distance.min() == pytest.approx(-19, abs=2)
    empty = signed_distance(Volume(np.zeros(grid.shape, bool), grid))
    assert np.all(empty == 1)


def test_identifiers_depend_on_the_key_alone() -> None:
    assert identifier(b"a", "ID1") == identifier(b"a", "ID1") != identifier(b"b", "ID1")
    assert identifier(b"a", "ID1") != identifier(b"a", "ID2")


# --- Privacy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", " \n", "secret", "a" * 64, "x" * 31])
def test_an_empty_short_or_monotonous_key_is_refused(
    cohort: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output, key = tmp_path / "prepared", tmp_path / "key"
    call(cohort, output)
    correct(output)
    key.write_text(content)
    assert call(cohort, output, "--key", str(key)) == 2
    assert f"The key {key} has" in capsys.readouterr().err
    assert not [path for path in output.iterdir() if path.is_dir()]


def test_the_key_never_lies_beside_the_data(
    cohort: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "prepared"
    call(cohort, output)
    correct(output)
    call(cohort, output)
    key = home / ".dose-prediction" / "clinical.key"
    assert key.stat().st_mode & 0o077 == 0 and len(key.read_bytes()) == 64
    secret = key.read_bytes()
    files = [path for path in output.rglob("*") if path.is_file()]
    assert files and not any(secret in path.read_bytes() for path in files)
    (output / ".key").write_bytes(b"0123456789abcdef" * 4)
    assert call(cohort, output) == 2
    assert "the key lies beside the data" in capsys.readouterr().err
    before = {path.name for path in output.iterdir()}
    assert call(cohort, output, "--key", str(output / ".key")) == 3  # named, so meant
    assert len({path.name for path in output.iterdir()} - before) == 2


def test_what_is_refused_is_told_by_pseudonyms_alone(cohort: Path, tmp_path: Path) -> None:
    output = tmp_path / "prepared"
    patient = cohort / "Patient Name 3"
    (patient / "rd.dcm").rename(patient / "RD.Testmann_Erika.dcm")
    for number, name in ((1, "Mustermann^Max"), (3, "Testmann^Erika")):
        dataset = pydicom.dcmread(cohort / f"Patient Name {number}" / "rs.dcm")
        dataset.PatientName = name
        save(cohort / f"Patient Name {number}" / "rs.dcm", dataset)
    dataset.StructureSetROISequence[0].ROIName = "PTV Mustermann"
    dataset = pydicom.dcmread(cohort / "Patient Name 1" / "rs.dcm")
    dataset.StructureSetROISequence[0].ROIName = "PTV Mustermann ID1"
    save(cohort / "Patient Name 1" / "rs.dcm", dataset)
    call(cohort, output)
    content = json.loads((output / "names.json").read_text())
    content["channels"] = {"Body": "Body", "PTV": "PTV"}
    (output / "names.json").write_text(json.dumps(content))
    assert call(cohort, output) == 3
    stated = (output / "refused.csv").read_text()
    assert len(stated.splitlines()) == 4 and "is damaged" in stated
    for word in ("Patient Name", "ID1", "Mustermann", "Testmann", "Erika", str(cohort), ".dcm"):
        assert word.lower() not in stated.lower(), word


@pytest.mark.parametrize("kind", ["EFFECTIVE", "BEAM"])
def test_a_dose_that_is_none_to_learn_from_is_refused(
    cohort: Path, tmp_path: Path, kind: str
) -> None:
    for folder in cohort.iterdir():
        dataset = pydicom.dcmread(folder / "rd.dcm", force=True)
        if kind == "EFFECTIVE":
            dataset.DoseType = kind
        else:
            dataset.DoseSummationType = "MULTI_PLAN"
        if "PixelData" in dataset:
            save(folder / "rd.dcm", dataset)
    output = tmp_path / "prepared"
    call(cohort, output)
    correct(output)
    assert call(cohort, output) == 3
    assert (output / "refused.csv").read_text().count("no dose to learn from") == 2
    assert not [path for path in output.iterdir() if path.is_dir()]
