"""Pictures of validation patients, drawn without a plotting library."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from support import pelvis_case, write_case_folder

from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.structures.protocol import StructureProtocol
from training.data import TrainingCase
from training.metrics import MetricsLog
from training.pictures import dvh_picture, png, slices_picture

PELVIS = StructureProtocol.load("pelvis")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> TrainingCase:
    settings = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(6.0, 6.0, 8.0)))
    folder = tmp_path_factory.mktemp("case") / "p0"
    write_case_folder(folder, pelvis_case((60, 48, 30), (6.0, 6.0, 8.0)))
    return TrainingCase.read(folder, PELVIS, settings)


def test_slices_show_where_the_dose_is_too_high_and_too_low(patient: TrainingCase) -> None:
    for shift_gy, strongest in ((-10.0, 2), (10.0, 0)):
        picture = slices_picture(patient, patient.dose_gy + np.float32(shift_gy), PELVIS)
        last = picture[:, picture.shape[1] * 2 // 3 :].reshape(-1, 3).astype(int)
        assert (last.argmax(axis=1) == strongest).mean() > 0.95
    same = slices_picture(patient, patient.dose_gy, PELVIS)
    plan, predicted, apart = np.split(same, 3, axis=1)
    assert np.array_equal(plan, predicted)
    colored = np.ptp(apart.astype(int), axis=-1) > 0
    assert 0 < colored.mean() < 0.02  # the target's outline alone


def test_dvhs_of_equal_doses_are_one_curve(patient: TrainingCase) -> None:
    same = dvh_picture(patient, patient.dose_gy, PELVIS)
    lower = dvh_picture(patient, patient.dose_gy * np.float32(0.8), PELVIS)
    target = np.array([int(PELVIS.inputs[0].color[i : i + 2], 16) for i in (1, 3, 5)])
    ours, theirs = ((each == target).all(axis=-1) for each in (same, lower))
    assert theirs.sum() > 1.3 * ours.sum()
    # The dashed one lies left of the plan's, which stays where it was.
    assert np.argwhere(theirs)[:, 1].min() <= np.argwhere(ours)[:, 1].min()
    assert (ours & theirs).sum() > 0.8 * ours.sum()


def test_pictures_reach_tensorboard_unchanged(patient: TrainingCase, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = dvh_picture(patient, patient.dose_gy, PELVIS)
    log = MetricsLog(tmp_path)
    log.picture("p0/dvh", picture, 5)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0}).Reload()
    (image,) = events.Images("p0/dvh")
    assert (image.step, image.height, image.width) == (5, *picture.shape[:2])
    shown = imread(io.BytesIO(image.encoded_image_string))
    assert np.array_equal(np.round(shown * 255), picture)
    assert png(picture) == image.encoded_image_string
