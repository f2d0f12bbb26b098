"""The check of a case against a model's patients: numbers, statistics, what is found and said."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import pelvis_case, prediction_of, write_case_folder

from benchmarks.out_of_distribution import auc
from benchmarks.perturbations import KINDS
from DosePredictionLib.app.models import show_model, verify_model
from DosePredictionLib.app.summary import prediction_summary
from DosePredictionLib.case import Case
from DosePredictionLib.checks.anatomy import MEASURES, anatomy
from DosePredictionLib.checks.distribution import (
    Deviation,
    Distribution,
    model_distribution,
    read_distribution,
    usable_distribution,
)
from DosePredictionLib.checks.distribution_fit import FEWEST, Identity, fit_distribution
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.checks.unlike_training import familiarity
from DosePredictionLib.checks.view import CaseView
from DosePredictionLib.errors import DosePredictionError, ModelError
from DosePredictionLib.files import write_json
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import read_model_folder
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume
from training.__main__ import main

PELVIS = StructureProtocol.load("pelvis")
SIZE, SPACING = (40, 32, 24), (10.0, 10.0, 10.0)
SHIPPED = ("openkbp-beams", "openkbp-dcnn", "openkbp-two-stage")


def numbers(case: Case) -> dict[str, float]:
    return anatomy(CaseView(bind(case, PELVIS)))


def moved(case: Case, name: str, array: np.ndarray) -> Case:
    return replace(case, structures={**case.structures, name: Volume(array, case.grid)})


@pytest.fixture(scope="module")
def phantom() -> Case:
    return pelvis_case(SIZE, SPACING)


def patients(count: int = 60, seed: int = 0) -> list[dict[str, float]]:
    """Four numbers, of which two go together; every third patient lacks the organ."""
    random = np.random.default_rng(seed)
    every = []
    for index in range(count):
        size, noise = random.normal(), random.normal(size=3)
        has = index % 3 != 0
        values = {
            "Rectum.volume": 4 + 0.3 * size + 0.03 * noise[0],
            "Rectum.length": 90 + 15 * size + 1.5 * noise[1],
            "Rectum.hu_middle": 20 + 10 * noise[2],
        }
        every.append({"Rectum.present": float(has), "body.noise": 12.0 + random.normal()})
        every[-1] |= values if has else {}
    return every


IDENTITY = Identity("m", ("a" * 64,), "pelvis", "made-up patients")


@pytest.fixture(scope="module")
def known() -> Distribution:
    return fit_distribution(patients(120), IDENTITY)


# ---------------------------------------------------------------- numbers of a case


def test_numbers_are_those_of_the_phantom(phantom: Case) -> None:
    found = numbers(phantom)
    rectum = phantom.structures["Rectum"]
    assert math.exp(found["Rectum.volume"]) == pytest.approx(rectum.array.sum() * 1.0)  # 1 cc each
    assert found["FemurHead_L.left"] > 0 > found["FemurHead_R.left"]
    assert found["Rectum.back"] > found["Bladder.back"]
    assert found["Rectum.present"] == 1.0 and all(
        name.rpartition(".")[2] in MEASURES for name in found
    )
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("spacing", [(10.0, 10.0, 10.0), (12.0, 10.0, 8.0)])
def test_numbers_do_not_depend_on_the_frame_or_the_order_of_the_voxels(
    phantom: Case, spacing: tuple[float, float, float]
) -> None:
    grid = phantom.grid
    here = Grid(grid.size, spacing, (0.0, 0.0, 0.0))
    flipped = Grid(
        grid.size,
        spacing,
        tuple((n - 1) * s for n, s in zip(grid.size, spacing, strict=True)),  # type: ignore[arg-type]
        ((-1.0, 0, 0), (0, -1.0, 0), (0, 0, -1.0)),
    )

    def on(place: Grid, step: int) -> Case:
        turn = (slice(None, None, step),) * 3
        masks = {n: Volume(m.array[turn], place) for n, m in phantom.structures.items()}
        ct = Volume(phantom.ct.array[turn].copy(), place)
        return Case("phantom", ct, masks, prescription=phantom.prescription)

    first, second = numbers(on(here, 1)), numbers(on(flipped, -1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name] == pytest.approx(value, abs=1e-3), name


def test_a_case_without_a_target_has_no_numbers(phantom: Case) -> None:
    kept = {name: mask for name, mask in phantom.structures.items() if name != "PTV"}
    assert numbers(replace(phantom, structures=kept)) == {}


# ---------------------------------------------------------------- statistics


def test_regular_patients_are_seldom_called_foreign(known: Distribution) -> None:
    scores = [known.deviations(each)[0].score for each in patients(400, seed=1)]
    assert 1 <= 100 * np.mean(np.array(scores) > known.threshold) <= 12
    assert known.threshold > 0 and known.share_percent == 95


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"Rectum.volume": 6.0}, "Rectum.volume"),
        ({"Rectum.hu_middle": 170.0}, "Rectum.hu_middle"),
        ({"body.noise": 90.0}, "body.noise"),
        # Either number is usual, not both together: large, and short.
        ({"Rectum.volume": 4.5, "Rectum.length": 67.0}, "Rectum"),
    ],
)
def test_what_is_foreign_is_found(
    known: Distribution, changes: dict[str, float], part: str
) -> None:
    regular = {
        "Rectum.present": 1.0,
        "Rectum.volume": 4.0,
        "Rectum.length": 90.0,
        "Rectum.hu_middle": 20.0,
        "body.noise": 12.0,
    }
    assert known.deviations(regular)[0].score < known.threshold
    worst = known.deviations(regular | changes)[0]
    assert worst.score > known.threshold
    assert f"{worst.part}.{worst.measure}".startswith(part) or worst.part == "everything"


def test_what_the_patients_did_not_have_does_not_count(known: Distribution) -> None:
    assert known.deviations({"Larynx.volume": 99.0}) == []
    usual = {"body.noise": 12.0, "Rectum.present": 1.0}
    assert known.deviations(usual | {"Larynx.volume": 99.0}) == known.deviations(usual)


def test_too_few_and_infinite_patients_are_refused() -> None:
    with pytest.raises(DosePredictionError, match=f"takes {FEWEST} or more"):
        fit_distribution(patients(FEWEST - 1), IDENTITY)
    with pytest.raises(DosePredictionError, match="infinite"):
        fit_distribution([*patients(), {"body.noise": math.inf}], IDENTITY)


def test_a_file_says_what_it_holds_and_is_refused_by_its_field(
    known: Distribution, tmp_path: Path
) -> None:
    path = tmp_path / "distribution.json"
    write_json(path, to_json(known))
    assert read_distribution(path) == known
    content = json.loads(path.read_text())
    for changes, names in (
        ({"schema_version": 2}, "schema version 2"),
        ({"correlation": [0.0]}, "correlation"),
        ({"directions": {"size": 1.0}}, "directions"),
        ({"surprise": 1}, "surprise"),
        (
            {"measures": [{**each, "name": "x.y"} for each in content["measures"]]},
            "unknown measure",
        ),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(ModelError, match=names):
            read_distribution(path)
    path.write_text(json.dumps(content | {"schema_minor": 2, "surprise": 1}))
    assert replace(read_distribution(path), schema_minor=1) == known


def test_a_wrong_spacing_is_told_from_a_large_patient() -> None:
    """Organs of a patient are 5 % larger or smaller together, and each by 5 % for itself."""
    organs = ("Bladder", "Rectum", "FemurHead_L", "FemurHead_R")

    def scaled(log_size: float, own: np.ndarray) -> dict[str, float]:
        found = {}
        for organ, (volume, length) in zip(organs, own, strict=True):
            found[f"{organ}.volume"] = 4.0 + 3 * (log_size + volume)
            found[f"{organ}.length"] = 90.0 * math.exp(log_size + length)
        return found

    random = np.random.default_rng(0)
    draws = [(random.normal(0, 0.05), random.normal(0, 0.05, (4, 2))) for _ in range(300)]
    known = fit_distribution([scaled(*each) for each in draws], IDENTITY)

    def size(log_size: float) -> Deviation:
        every = known.deviations(scaled(log_size, np.zeros((4, 2))))
        return next(each for each in every if each.measure == "size")

    assert size(0.05).score < known.threshold < size(math.log(1.2)).score
    assert (
        size(math.log(1.2)).score
        == known.deviations(scaled(math.log(1.2), np.zeros((4, 2))))[0].score
    )
    assert size(math.log(1.2)).value == pytest.approx(1.2, abs=0.03)
    assert size(-math.log(1.2)).value == pytest.approx(1 / 1.2, abs=0.03)
    # In a file of version 1.0 large patients count as scaled.
    older = replace(known, schema_minor=0).deviations(scaled(0.1, np.zeros((4, 2))))
    assert next(each for each in older if each.measure == "size").score < size(0.1).score


# ---------------------------------------------------------------- command, model, findings


def tiny_case(index: int) -> Case:
    """A phantom whose CT and contours vary a little from patient to patient."""
    random = np.random.default_rng(index)
    whole = pelvis_case((24, 20, 16), (15.0, 15.0, 15.0))
    noise = random.normal(0, 10, whole.ct.array.shape).astype(np.float32)
    case = replace(whole, name=f"p{index:02}", ct=whole.ct.with_array(whole.ct.array + noise))
    shift = int(random.integers(-1, 2))
    return moved(case, "Rectum", np.roll(case.structures["Rectum"].array, shift, axis=1))


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel) -> Path:
    """A model's folder whose patients are known."""
    folder = tmp_path_factory.mktemp("described")
    shutil.copytree(pelvis_model.folder, folder / "model")
    for index in range(FEWEST):
        write_case_folder(folder / "cases" / f"p{index:02}", tiny_case(index))
    call = ["distribution", "--model", str(folder / "model"), "--cases", str(folder / "cases")]
    assert main([*call, "--workers", "1", "--description", "tiny phantoms"]) == 0
    return folder / "model"


def test_the_command_writes_what_the_model_checks_with(described: Path) -> None:
    model = read_model_folder(described)
    found = model_distribution(model)
    assert found is not None and found.patients == FEWEST and found.cohort == "tiny phantoms"
    card = show_model(str(described))["distribution"]
    assert card["patients"] == FEWEST and card["threshold"] == found.threshold
    assert verify_model(str(described))["verified"]


def test_a_foreign_case_is_said_with_its_part(described: Path) -> None:
    model = read_model_folder(described)
    known, unusable = usable_distribution(model)
    assert known is not None and unusable == []
    regular, bound = tiny_case(99), bind(tiny_case(99), PELVIS)
    expected = model.manifest.expectations
    assert "unlike-training-patients" not in {f.id for f in check_case(bound, expected, known)}
    array = np.zeros_like(regular.structures["Bladder"].array)
    array[4:12, 4:16, 4:20] = True
    large = moved(regular, "Bladder", array)
    every = check_case(bind(large, PELVIS), expected, known)
    foreign = [found for found in every if found.id == "unlike-training-patients"]
    assert all(f"unlike the {FEWEST} patients" in found.message for found in foreign)
    assert len({found.message for found in foreign}) == len(foreign) <= 3
    assert {found.severity for found in foreign} == {"warning"}
    (found,) = [each for each in foreign if each.structure == "Bladder"]
    assert found.message.startswith("Bladder ") and "\n" not in found.message
    assert found.position_mm is not None
    record = familiarity(CaseView(bind(large, PELVIS), expected, distribution=known))
    assert record is not None and record["score"] > record["threshold"]
    assert any(part["part"] == "Bladder" for part in record["parts"])
    added = replace(regular, ct=regular.ct.with_array(regular.ct.array + 300))
    record = familiarity(CaseView(bind(added, PELVIS), expected, distribution=known))
    assert record is not None and record["score"] > record["threshold"]
    every = known.deviations(numbers(added))
    (hu,) = [each for each in every if each.part == "everything" and each.measure == "hu"]
    assert hu.value == pytest.approx(300, abs=30) and hu.score > known.threshold


def test_the_record_of_a_prediction_says_how_familiar_it_is(
    described: Path, pelvis_model: DoseModel
) -> None:
    summary = prediction_summary(prediction_of(tiny_case(98), read_model_folder(described)))
    assert set(summary["familiarity"]) >= {"score", "threshold", "patients", "parts"}
    assert all(part["text"] for part in summary["familiarity"]["parts"])
    assert prediction_summary(prediction_of(tiny_case(98), pelvis_model))["familiarity"] is None


def test_a_file_of_other_weights_never_stops_a_prediction(described: Path, tmp_path: Path) -> None:
    shutil.copytree(described, tmp_path / "model")
    path = tmp_path / "model" / "distribution.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": ["0" * 64]}))
    known, (finding,) = usable_distribution(read_model_folder(tmp_path / "model"))
    assert known is None and finding.id == "distribution-unusable"
    assert "weights 000000000000…" in finding.message
    with pytest.raises(ModelError, match="000000000000…"):
        verify_model(str(tmp_path / "model"))


def test_the_command_refuses_what_it_cannot_use(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["distribution", "--model", str(described), "--output", str(tmp_path / "d.json")]
    assert main([*call, "--cases", str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    write_case_folder(tmp_path / "cases" / "a", tiny_case(1))
    assert main([*call, "--cases", str(tmp_path / "cases"), "--workers", "1"]) == 2
    assert f"takes {FEWEST} or more" in capsys.readouterr().err


# ---------------------------------------------------------------- perturbations, shipped models


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: f"{each.kind} {each.size}")
def test_every_perturbation_changes_the_case_and_nothing_of_the_original(
    kind: Any,
) -> None:
    phantom = pelvis_case((60, 48, 40), (6.0, 6.0, 6.0))
    before = {name: mask.array.copy() for name, mask in phantom.structures.items()}
    ct = phantom.ct.array.copy()
    changed = kind.change(phantom, np.random.default_rng(0))
    assert changed is not None
    same = (
        changed.grid.matches(phantom.grid)
        and changed.structures.keys() == phantom.structures.keys()
        and np.array_equal(changed.ct.array, ct)
        and all(np.array_equal(m.array, before[n]) for n, m in changed.structures.items())
        and changed.prescription == phantom.prescription
    )
    assert not same
    assert np.array_equal(phantom.ct.array, ct)
    assert all(np.array_equal(m.array, before[n]) for n, m in phantom.structures.items())


def test_the_auc_is_the_chance_to_score_higher() -> None:
    assert auc(np.array([1.0, 2, 3]), np.array([2.0, 9])) == pytest.approx((1.5 + 3) / 6)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_case_is_familiar_to_the_shipped_models(
    name: str, run: Callable[..., Any]
) -> None:
    model = DoseModel.load(name)
    known = model_distribution(model)
    assert known is not None and known.patients >= 100
    from DosePredictionLib.io import read_case
    from DosePredictionLib.resources import resource_path

    case = read_case(resource_path("SampleData", "openkbp", "pt_235.npz"))
    view = CaseView(bind(case, model.protocol), model.manifest.expectations, distribution=known)
    record = familiarity(view)
    assert record is not None and record["score"] <= record["threshold"], record
    swap = {"LeftParotid": "RightParotid", "RightParotid": "LeftParotid"}
    swapped = {swap.get(n, n): mask for n, mask in case.structures.items()}
    wrong = bind(replace(case, structures=swapped), model.protocol)
    record = familiarity(CaseView(wrong, model.manifest.expectations, distribution=known))
    assert record is not None and record["score"] > record["threshold"]
    assert "parotid" in record["parts"][0]["text"]
