"""Outputs of a prediction: names, roles and units that are refused; their way through a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dummy_tasks
import numpy as np
import pytest
from dummy_tasks import dummy_model
from support import pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.errors import PredictionError, WorkerError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import ROLES, Output, Prediction
from DosePredictionLib.volume import Volume
from DosePredictionLib.worker.exchange import read_prediction, write_prediction


@pytest.fixture(scope="module")
def small_case() -> Case:
    return pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def prediction(
    tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel, small_case: Case
) -> Iterator[Prediction]:
    """A dose, its bounds, a probability and a segment."""
    dummy_tasks.register()
    model = dummy_model(tmp_path_factory.mktemp("dummies"), "bands", pelvis_model)
    yield Predictor(model, "cpu", "fp32").predict(small_case)
    dummy_tasks.unregister()


def outputs_of(case: Case, *keys: str) -> tuple[Output, ...]:
    dose = case.ct.with_array(np.ones(case.grid.shape, dtype=np.float32))
    roles = ("dose", "lower", "upper")
    return tuple(Output(key, dose, role, "Gy") for key, role in zip(keys, roles, strict=False))


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        (("dose", "low", "low"), "two outputs called low"),
        (("dose", "dose"), "two outputs called dose"),
        (("mean", "dose"), "called dose that is not its dose: the name"),
        ((), "no output"),
    ],
)
def test_output_names_that_collide_are_refused(
    prediction: Prediction, small_case: Case, keys: tuple[str, ...], rule: str
) -> None:
    with pytest.raises(PredictionError, match=rule) as refused:
        replace(prediction, outputs=outputs_of(small_case, *keys))
    assert "\n" not in str(refused.value)


def test_outputs_lie_on_one_grid(prediction: Prediction, small_case: Case) -> None:
    array = prediction.dose.array
    moved = Volume(array, replace(small_case.grid, origin=(1.0, 2.0, 3.0)))
    with pytest.raises(PredictionError, match="The output moved lies on"):
        replace(
            prediction,
            outputs=(*prediction.outputs, Output("moved", moved, "upper", "Gy", level=0.9)),
        )


@pytest.mark.parametrize(
    "key", ["", "Dose", "../dose", "dose.nii", "a-b", "1st", "con", "com1", "lpt9", "x" * 64, "ä"]
)
def test_a_key_that_is_no_safe_file_name_is_refused(small_case: Case, key: str) -> None:
    with pytest.raises(PredictionError, match="cannot name an output"):
        outputs_of(small_case, key)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"role": "fluence"}, "none of dose, coarse dose"),
        ({"unit": "cGy"}, "has Gy or probability"),
        ({"role": "segment"}, "a segment has none"),
        ({"role": "dose", "unit": "probability"}, "a dose has Gy"),
        ({"level": 90}, "between 0 and 1"),
    ],
)
def test_an_output_of_an_unknown_kind_is_refused(
    small_case: Case, changes: dict, rule: str
) -> None:
    whole = {"key": "x", "volume": small_case.ct, "role": "upper", "unit": "Gy"} | changes
    with pytest.raises(PredictionError, match=rule):
        Output(**whole)  # type: ignore[arg-type]
    assert set(ROLES) >= {"dose", "segment", "probability"}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("role", "fluence", "role must be one of dose, coarse dose"),
        ("unit", "cGy", "unit must be one of Gy"),
        ("key", "low", "two outputs called low"),
        ("key", "../high", "cannot name an output"),
    ],
)
def test_an_exchange_folder_with_a_foreign_output_is_refused_in_a_line(
    prediction: Prediction, small_case: Case, tmp_path: Path, name: str, value: str, rule: str
) -> None:
    write_prediction(tmp_path / "p", prediction)
    record = tmp_path / "p" / "prediction.json"
    content = json.loads(record.read_text())
    content["outputs"][2][name] = value
    record.write_text(json.dumps(content))
    with pytest.raises((WorkerError, PredictionError), match=rule) as refused:
        read_prediction(tmp_path / "p", small_case)
    assert "\n" not in str(refused.value)


def test_a_segmentation_passes_the_exchange_without_any_dose(
    prediction: Prediction, small_case: Case, tmp_path: Path
) -> None:
    segments = replace(prediction, outputs=prediction.of_roles(["segment", "probability"]))
    write_prediction(tmp_path / "p", segments)
    back = read_prediction(tmp_path / "p", small_case)
    assert [(o.key, o.role, o.structure) for o in back.outputs] == [
        ("chance", "probability", "Bladder"),
        ("bladder", "segment", "Bladder"),
    ]
    with pytest.raises(PredictionError, match=r"predicts no dose, only probability, segment\."):
        _ = back.dose
