"""The command line as its users and other programs see it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from support import (
    ROOT,
    pelvis_case,
    random_network,
    write_case_folder,
    write_checkpoint,
    write_nifti,
)

from DosePredictionLib.case import Case
from DosePredictionLib.cli import main
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.volume import Volume

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="session")
def small_model(pelvis_model: DoseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random pelvis model with a grid of 80×64×48, as a folder."""
    folder = tmp_path_factory.mktemp("small") / "small-pelvis"
    shutil.copytree(pelvis_model.folder, folder)
    manifest = json.loads((folder / "model.json").read_text())
    manifest["name"] = "small-pelvis"
    manifest["encoding"]["grid"].update(size=[80, 64, 48], spacing_mm=[5.0, 5.0, 5.0])
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder


def leftovers(folder: Path) -> list[str]:
    """Hidden or partial files anywhere below a folder."""
    return [str(path) for path in folder.rglob("*") if "partial" in path.name]


# ---------------------------------------------------------------- predict


def test_predict_writes_dose_record_and_report(
    run: Run, case_folder: Path, case: Case, small_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, result, _ = run(
        "predict", case_folder, "--model", small_model, "--output", out, "--report"
    )
    assert code == 0
    (record,) = result["cases"]
    assert result["failed"] == []
    for key in (
        "case",
        "dose",
        "prediction",
        "report",
        "model",
        "device",
        "precision",
        "seconds",
        "checks",
        "fallbacks",
    ):
        assert key in record
    image = nibabel.load(record["dose"])
    assert image.shape == case.grid.size
    assert image.get_data_dtype() == np.float32
    assert image.get_fdata().min() >= 0 and image.get_fdata().max() > 0
    summary = json.loads(Path(record["prediction"]).read_text())
    assert summary["model"]["name"] == "small-pelvis"
    assert "not for clinical use" in summary["statement"].lower()
    assert summary["structures"]["Bladder"]["endpoints"]["Dmean_gy"] >= 0
    assert summary["mapping"]
    assert "<html" in Path(record["report"]).read_text()[:500]
    assert sorted(path.name for path in (out / "patient").iterdir()) == [
        "dose.nii.gz",
        "prediction.json",
        "report.html",
    ]
    assert not leftovers(out)


def test_predicting_twice_overwrites_with_the_same(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    call = ("predict", case_folder, "--model", small_model, "--output", tmp_path / "out")
    doses = []
    for _ in range(2):
        code, result, _ = run(*call)
        assert code == 0
        doses.append(nibabel.load(result["cases"][0]["dose"]).get_fdata())
    assert np.array_equal(*doses)


def test_predict_in_nrrd_under_the_published_name(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    call = ("predict", case_folder, "--model", small_model, "--output", tmp_path / "out")
    code, result, _ = run(*call, "--format", "nrrd")
    assert code == 0 and result["cases"][0]["dose"].endswith("dose.nrrd")
    code, result, _ = run(*call, "--published-names")
    name = "E2E_Baseline_Lband_Pred_Dose_256_64.nii.gz"
    assert code == 0 and Path(result["cases"][0]["dose"]).name == name


def test_prescription_and_mapping_options_reach_the_record(
    run: Run, tmp_path: Path, case: Case, small_model: Path
) -> None:
    folder = write_case_folder(tmp_path / "p", case, names={"Bladder": "strange organ"})
    call = ("predict", folder, "--model", small_model, "--output", tmp_path / "out")
    code, result, _ = run(*call)
    assert code == 2
    assert "Bladder" in result["error"]["message"] and "--map" in result["error"]["message"]
    code, result, _ = run(
        *call,
        "--map",
        "Bladder=strange organ",
        "--prescription",
        "PTV=50.4",
        "--fractions",
        "28",
    )
    assert code == 0
    summary = json.loads(Path(result["cases"][0]["prediction"]).read_text())
    assert summary["prescription"] == {
        "target_gy": {"PTV": 50.4},
        "fractions": 28,
        "technique": None,
    }
    assert "strange organ" in json.dumps(summary["mapping"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--prescription", "PTV"], "TARGET=GY"),
        (["--prescription", "PTV=much"], "TARGET=GY"),
        (["--prescription", "PTV=-3"], "above 0"),
        (["--fractions", "0"], "prescription"),
        (["--map", "Bladder"], "CHANNEL=NAME"),
        (["--map", "Kidney=Bladder"], "Kidney"),
        (["--map", "Bladder=Nowhere"], "Nowhere"),
        (["--mapping", "nowhere.json"], "nowhere.json"),
        (["--device", "cuda:7"], "CUDA"),
        (["--device", "abacus"], "abacus"),
        (["--precision", "fp8"], "fp8"),
        (["--model", "nonsense"], "nonsense"),
        (["--surprise"], "--surprise"),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_2(
    run: Run,
    case_folder: Path,
    small_model: Path,
    tmp_path: Path,
    arguments: list[str],
    names: str,
) -> None:
    out = tmp_path / "out"
    code, result, error = run(
        "predict", case_folder, "--model", small_model, "--output", out, *arguments
    )
    assert code == 2
    assert set(result) == {"error"}
    assert names.lower() in result["error"]["message"].lower()
    assert len(error.strip().splitlines()) == 1 and "Traceback" not in error
    assert not out.exists()


def spoil(folder: Path, case: Case, kind: str) -> None:
    """Make a good folder bad in one way."""
    organ = case.structures["Rectum"]
    if kind == "gone":
        shutil.rmtree(folder)
    elif kind == "no ct":
        (folder / "ct.nii.gz").unlink()
    elif kind == "truncated":
        path = folder / "ct.nii.gz"
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "all-zero required":
        write_nifti(folder / "Rectum.nii.gz", organ.with_array(np.zeros_like(organ.array)))
    elif kind == "missing required":
        (folder / "Rectum.nii.gz").rename(folder / "Rektm.nii.gz")
    elif kind == "two fit":
        for name in ("Rektum", "Enddarm"):
            write_nifti(folder / f"{name}.nii.gz", organ)
        (folder / "Rectum.nii.gz").unlink()
    elif kind == "no target":
        (folder / "PTV.nii.gz").unlink()
    elif kind == "not hu":
        gray = ((case.ct.array.astype(float) + 1000) / 1040 * 255).clip(0, 255).astype(np.uint8)
        write_nifti(folder / "ct.nii.gz", case.ct.with_array(gray))
    elif kind == "nan":
        ct = case.ct.array.astype(np.float32)
        ct[5, 5, 5] = np.nan
        write_nifti(folder / "ct.nii.gz", case.ct.with_array(ct))


BAD = [
    ("gone", "no such file"),
    ("no ct", "no CT"),
    ("truncated", "ct.nii.gz"),
    ("all-zero required", "Rectum"),
    ("missing required", "Rektm"),
    ("two fit", "--map Rectum="),
    ("no target", "PTV"),
    ("not hu", "HU"),
    ("nan", "NaN"),
]


@pytest.mark.parametrize(("kind", "names"), BAD)
def test_a_bad_case_gets_one_line_and_exit_2_and_writes_nothing(
    run: Run,
    case_folder: Path,
    case: Case,
    small_model: Path,
    tmp_path: Path,
    kind: str,
    names: str,
) -> None:
    spoil(case_folder, case, kind)
    out = tmp_path / "out"
    code, result, error = run("predict", case_folder, "--model", small_model, "--output", out)
    assert code == 2
    assert names.lower() in result["error"]["message"].lower()
    assert "Traceback" not in error
    assert not out.exists()


def test_of_several_cases_one_bad_the_others_are_written_and_exit_is_3(
    run: Run, case_folder: Path, case: Case, small_model: Path, tmp_path: Path
) -> None:
    bad = write_case_folder(tmp_path / "bad", case)
    (bad / "PTV.nii.gz").unlink()
    out = tmp_path / "out"
    code, result, _ = run("predict", bad, case_folder, "--model", small_model, "--output", out)
    assert code == 3
    assert [record["case"] for record in result["cases"]] == ["patient"]
    assert [failure["case"] for failure in result["failed"]] == ["bad"]
    assert "PTV" in result["failed"][0]["error"]
    assert [path.name for path in out.iterdir()] == ["patient"]


def test_equal_names_are_refused_before_work_starts(
    run: Run, case_folder: Path, case: Case, small_model: Path, tmp_path: Path
) -> None:
    other = write_case_folder(tmp_path / "elsewhere" / "patient", case)
    out = tmp_path / "out"
    code, result, _ = run("predict", case_folder, other, "--model", small_model, "--output", out)
    assert code == 2 and "'patient'" in result["error"]["message"]
    assert not out.exists()


def test_a_missing_optional_structure_is_a_finding(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    (case_folder / "Marrow.nii.gz").unlink()
    code, result, _ = run(
        "predict", case_folder, "--model", small_model, "--output", tmp_path / "out"
    )
    assert code == 0
    noticed = [check for check in result["cases"][0]["checks"] if check["structure"] == "Marrow"]
    assert noticed and noticed[0]["severity"] == "info"


def test_damaged_weights_are_refused(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_model, copy)
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    code, result, _ = run("predict", case_folder, "--model", copy, "--output", tmp_path / "out")
    assert code == 2 and "SHA-256" in result["error"]["message"]
    code, result, _ = run("models", "verify", copy)
    assert code == 2 and "SHA-256" in result["error"]["message"]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(nibabel, "save", full)
    out = tmp_path / "out"
    code, result, error = run("predict", case_folder, "--model", small_model, "--output", out)
    assert code == 2 and "No space left" in result["error"]["message"]
    assert "Traceback" not in error
    assert not any(out.iterdir())


def test_a_read_only_output_is_refused_before_work(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # Root may write anywhere: say what the system says to others.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    code, result, _ = run("predict", case_folder, "--model", small_model, "--output", out)
    assert code == 2 and "read-only" in result["error"]["message"]
    assert not any(out.iterdir())


def test_an_output_that_is_a_file_is_refused(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    code, result, _ = run(
        "predict", case_folder, "--model", small_model, "--output", tmp_path / "out"
    )
    assert code == 2 and str(tmp_path / "out") in result["error"]["message"]


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_caller_ignores_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    assert main(["models", "list"]) == 0
    assert signal.getsignal(number) == signal.SIG_IGN


_SAYS_WHEN_IT_INFERS = """
import sys
from pathlib import Path
from DosePredictionLib.cli import main
from DosePredictionLib.inference.predictor import Predictor
infer = Predictor._infer
def begun(*arguments):
    Path(sys.argv[1]).touch()
    return infer(*arguments)
Predictor._infer = begun
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_and_exits_with_130(tmp_path: Path, number: int) -> None:
    case = pelvis_case((96, 96, 64), (4.0, 4.0, 5.0))
    folder = write_case_folder(tmp_path / "patient", case)
    checkpoint = write_checkpoint(tmp_path / "c.pt", random_network(filters=(8, 16)))
    assert main(["models", "import", str(checkpoint), "--name", "m", "--protocol", "pelvis",
                 "--output", str(tmp_path / "models"), "--json"]) == 0  # fmt: skip
    out = tmp_path / "out"
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", _SAYS_WHEN_IT_INFERS, str(begun), "predict", str(folder)]
    command += ["--model", str(tmp_path / "models" / "m"), "--output", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert not out.exists()


# ---------------------------------------------------------------- strips


def test_strips_are_written_beside_the_case_and_used(
    run: Run, case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    code, result, _ = run("strips", case_folder)
    assert code == 0
    names = [Path(file).name for file in result["cases"][0]["files"]]
    assert names == [f"strip_full_theta{angle:03d}.nii.gz" for angle in (0, 45, 90, 135)]
    assert all(nibabel.load(file).get_fdata().max() == 1 for file in result["cases"][0]["files"])
    code, result, _ = run(
        "predict", case_folder, "--model", small_model, "--output", tmp_path / "out"
    )
    assert code == 0
    assert "strips-from-files" in {check["id"] for check in result["cases"][0]["checks"]}


def test_strips_of_an_oblique_case_are_refused(run: Run, tmp_path: Path) -> None:
    from support import OBLIQUE

    folder = write_case_folder(tmp_path / "p", pelvis_case(direction=OBLIQUE))
    code, result, _ = run("strips", folder)
    assert code == 2 and "oblique" in result["error"]["message"]


# ---------------------------------------------------------------- models and check


def test_a_checkpoint_is_imported_listed_shown_and_verified(run: Run, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pth", random_network())
    code, result, _ = run(
        "models", "import", checkpoint, "--name", "clinic", "--protocol", "pelvis"
    )
    assert code == 0
    assert Path(result["model"]["path"]).is_dir() and result["model"]["name"] == "clinic"
    code, result, _ = run("models", "list")
    (listed,) = [m for m in result["models"] if m["name"] == "clinic"]
    assert listed["protocol"] == "pelvis" and listed["default"] is False
    assert listed["parameters"] == sum(p.numel() for p in random_network().parameters())
    assert run("models", "verify", "clinic")[0] == 0
    code, result, _ = run("models", "show", "clinic")
    assert code == 0 and result["model"]["protocol"] == "pelvis"


def test_check_reports_versions_memory_and_models(run: Run) -> None:
    code, result, _ = run("check")
    assert code == 0
    report = result["check"]
    assert report["packages"]["torch"] != "missing"
    assert all(model["weights"] == "verified" for model in report["models"])


def test_text_for_people_names_the_files_and_the_limits(
    capsys: pytest.CaptureFixture[str], case_folder: Path, small_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        main(["predict", str(case_folder), "--model", str(small_model), "--output", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    assert str(out / "patient" / "dose.nii.gz") in printed
    assert "not for clinical use" in printed


# ---------------------------------------------------------------- evaluate


def test_evaluate_scores_a_prediction_against_the_plan(
    run: Run, case_folder: Path, case: Case, tmp_path: Path
) -> None:
    assert case.plan_dose is not None
    shifted = case.plan_dose.with_array(case.plan_dose.array + 1.5)
    prediction = write_nifti(tmp_path / "dose.nii.gz", shifted)
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", prediction, "--gamma", "3%/3mm"
    )
    assert code == 0
    assert result["mae_body_gy"] == pytest.approx(1.5, abs=1e-4)
    assert result["mae_above_5gy_gy"] == pytest.approx(1.5, abs=1e-4)
    assert result["dvh_score_gy"] == pytest.approx(1.5, abs=1e-4)
    assert result["structures"]["Bladder"]["mae_gy"] == pytest.approx(1.5, abs=1e-4)
    endpoint = result["structures"]["PTV"]["endpoints"]["D95_gy"]
    assert endpoint["prediction"] - endpoint["reference"] == pytest.approx(1.5, abs=1e-3)
    assert 0 <= result["gamma"]["3%/3mm"]["pass_rate_percent"] <= 100


def test_a_prediction_on_another_grid_is_resampled_and_reported(
    run: Run, case_folder: Path, case: Case, tmp_path: Path
) -> None:
    from support import centered_grid

    assert case.plan_dose is not None
    finer = case.plan_dose.resampled_to(centered_grid((200, 160, 120), (2.0, 2.0, 2.0)), "linear")
    prediction = write_nifti(tmp_path / "dose.nii.gz", finer)
    call = ("evaluate", "--case", case_folder, "--prediction", prediction)
    code, result, _ = run(*call)
    assert code == 0 and result["mae_body_gy"] < 0.3
    assert "resampled" in json.dumps(result)
    code, result, _ = run(*call, "--no-resample")
    assert code == 2 and "resampling" in result["error"]["message"]
    part = finer.grid.cropped((0, 0, 70), (200, 160, 50))
    write_nifti(prediction, finer.resampled_to(part, "nearest"))
    code, result, _ = run(*call)
    assert code == 2 and "99 %" in result["error"]["message"]


@pytest.mark.parametrize("kind", ["nan", "negative"])
def test_an_impossible_dose_is_refused(
    run: Run, case_folder: Path, case: Case, tmp_path: Path, kind: str
) -> None:
    assert case.plan_dose is not None
    values = case.plan_dose.array.copy()
    values[10, 10, 10] = np.nan if kind == "nan" else -30
    prediction = write_nifti(tmp_path / "dose.nii.gz", Volume(values, case.grid))
    code, result, _ = run("evaluate", "--case", case_folder, "--prediction", prediction)
    assert code == 2 and kind in result["error"]["message"].lower()


def test_evaluate_of_a_cohort_pools_and_lists_the_unpaired(
    run: Run, tmp_path: Path, case: Case
) -> None:
    assert case.plan_dose is not None
    for index, offset in enumerate((1.0, 2.0, 3.0)):
        write_case_folder(tmp_path / "cohort" / f"p{index}", case)
        folder = tmp_path / "out" / f"p{index}"
        folder.mkdir(parents=True)
        write_nifti(
            folder / "dose.nii.gz", case.plan_dose.with_array(case.plan_dose.array + offset)
        )
    write_case_folder(tmp_path / "cohort" / "unpredicted", case)
    code, result, _ = run(
        "evaluate", "--cohort", tmp_path / "cohort", "--predictions", tmp_path / "out"
    )
    assert code == 0
    assert [record["case"] for record in result["cases"]] == ["p0", "p1", "p2"]
    summary = result["summary"]["dvh_score_gy"]
    assert summary["mean"] == pytest.approx(2.0, abs=1e-3)
    assert summary["per_patient_mean"] == pytest.approx(2.0, abs=1e-3)
    low, high = result["summary"]["mae_body_gy"]["ci95"]
    assert 0.999 <= low <= 2.0 <= high <= 3.001
    assert result["unpaired"] == ["unpredicted"]
