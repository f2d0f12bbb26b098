"""What the worker does beside predicting: preflight and report, over the real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, pelvis_case

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.encoding.encoder import encode
from DosePredictionLib.errors import ModelError
from DosePredictionLib.evaluation.evaluate import evaluate, plan_curve_steps
from DosePredictionLib.inference.predictor import predict
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import installed_manifests
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.worker.exchange import CaseReader, read_exchanged_case, write_case
from DosePredictionLib.worker.measured import read_measures
from DosePredictionLib.worker.messages import (
    Check,
    Checked,
    Failure,
    Predict,
    PredictOptions,
    Reply,
    Result,
    WriteReport,
    decode_reply,
    decode_request,
    encode_message,
)
from DosePredictionLib.worker.side_jobs import check


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(
        tmp_path_factory.mktemp("exchange") / "case", pelvis_case((40, 32, 24), (10,) * 3)
    )


def test_a_check_tells_what_cannot_be_mapped(folder: Path) -> None:
    request = Check("c1", str(folder), "openkbp-two-stage", {"PTV70": "PTV"})
    checked, _ = check(request, CaseReader())
    assert checked.id == "c1"
    assert {finding.severity for finding in checked.findings} >= {"warning"}


def test_a_check_sees_the_prescription_of_the_request(folder: Path) -> None:
    def unlike(dose_gy: float) -> bool:
        request = Check(
            "c",
            str(folder),
            "openkbp-two-stage",
            {"PTV70": "PTV"},
            Prescription({"PTV70": dose_gy}),
        )
        return "prescription-unlike-model" in {
            finding.id for finding in check(request, CaseReader())[0].findings
        }

    assert unlike(30.0)
    assert not unlike(70.0)


def test_a_model_that_has_gone_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="vanished is not installed"):
        check(Check("c", str(folder), "vanished"), CaseReader())


def test_messages_survive_the_wire(folder: Path) -> None:
    request = Check("c", str(folder), "openkbp-two-stage", {"PTV70": "PTV", "Larynx": None})
    assert decode_request(encode_message(request)) == request
    organs = Predict("p", str(folder), "out", "organs-by-hu", gives="segment")
    assert decode_request(encode_message(organs)) == organs
    report = WriteReport("r", str(folder), "prediction", "report.html")
    assert decode_request(encode_message(report)) == report
    checked, _ = check(request, CaseReader())
    assert decode_reply(encode_message(checked)) == checked


def test_a_case_measured_at_the_check_gives_the_same_numbers(
    tmp_path: Path, pelvis_model: DoseModel
) -> None:
    """The real worker: one prediction after a check and a rest, one of a case never checked."""
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    folders = [write_case(tmp_path / name, case) for name in ("checked", "unchecked")]
    model = str(pelvis_model.folder)
    options = PredictOptions("cpu", "fp32", measure=True)
    with subprocess.Popen(
        [sys.executable, "-m", "DosePredictionLib.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def answer_to(request: Check | Predict) -> Reply:
            process.stdin.write(encode_message(request))
            while True:
                reply = decode_reply(process.stdout.readline())
                if isinstance(reply, (Failure, Checked, Result)):
                    return reply

        assert isinstance(answer_to(Check("check", str(folders[0]), model)), Checked)
        time.sleep(1.0)  # the worker measures meanwhile
        for folder in folders:
            output = str(tmp_path / f"{folder.name}-dose")
            request = Predict(folder.name, str(folder), output, model, options=options)
            assert isinstance(answer_to(request), Result)
        process.stdin.close()
        process.wait(120)
    first, second = (read_measures(tmp_path / f"{folder.name}-dose") for folder in folders)
    assert first.predicted == second.predicted
    assert first.planned == second.planned
    assert first.planned is not None
    assert first.evaluation == second.evaluation


def test_numbers_measured_in_advance_are_those_of_the_same_mapping_alone(
    pelvis_model: DoseModel,
) -> None:
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    prediction = predict(case, pelvis_model, device="cpu")
    names = {**dict(zip(case.structures, case.structures, strict=True)), "Bladder": "Rectum"}
    other = bind(case, pelvis_model.protocol, {**names, "Rectum": None})
    fresh = replace(case, structures={n: copy(m) for n, m in case.structures.items()})
    expected = evaluate(replace(prediction, case=fresh).bound, prediction.dose)
    for bound in (prediction.bound, other):
        list(plan_curve_steps(bound))
    found = evaluate(prediction.bound, prediction.dose)
    assert (found.predicted, found.planned) == (expected.predicted, expected.planned)
    assert evaluate(other, prediction.dose).planned != expected.planned


@pytest.mark.parametrize("model", ["pelvis-simulated", "openkbp-two-stage"])
def test_a_case_after_a_stroke_is_that_of_a_case_read_anew(tmp_path: Path, model: str) -> None:
    """What is kept of the case before, over the real reader: input, findings and numbers."""
    manifest = next(m.manifest for m in installed_manifests().models if m.manifest.name == model)
    protocol = StructureProtocol.load(manifest.protocol)
    mapping = {} if protocol.id == "pelvis" else {"PTV70": "PTV", "Larynx": "Bladder"}
    reader = CaseReader()
    case = reader.read(write_case(tmp_path / "0", pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))))
    dose = case.ct.with_array(np.random.default_rng(0).random(case.grid.shape, np.float32) * 45)

    def seen(of: Case) -> tuple[Any, ...]:
        bound = bind(of, protocol, mapping)
        found = check_case(bound, manifest.expectations)
        encoded = encode(bound, manifest.encoding)
        return encoded.input, found, encoded.findings, evaluate(bound, dose)

    for number, name in enumerate(("Bladder", "PTV", "Body"), start=1):
        seen(case)
        mask = case.structures[name].binary()
        mask[np.flatnonzero(mask.any(axis=(1, 2)))[0]] = False  # a stroke that takes a slice away
        edited = replace(case, structures={**case.structures, name: Mask(mask, case.grid)})
        folder = write_case(tmp_path / str(number), edited)
        case, anew = reader.read(folder), read_exchanged_case(folder)
        assert case.ct is not anew.ct
        ours, theirs = seen(case), seen(anew)
        assert np.array_equal(ours[0], theirs[0]) and ours[1:3] == theirs[1:3]
        assert ours[3].as_json() == theirs[3].as_json()


def test_the_worker_answers_without_torch_and_says_what_is_missing(
    folder: Path, tmp_path: Path
) -> None:
    """The real process, in a Python whose torch cannot be imported."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "torch.py").write_text("raise ImportError('no torch here', name='torch')\n")
    paths = os.pathsep.join([str(hidden), str(ROOT)])
    requests = (
        Check("missing", str(folder / "nothing"), "openkbp-two-stage"),
        Check("check", str(folder), "openkbp-two-stage", {"PTV70": "PTV"}),
        Predict("predict", str(folder), str(tmp_path / "out"), "openkbp-two-stage"),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "DosePredictionLib.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(map(encode_message, requests)))
        replies = {}
        while len(replies) < len(requests):
            reply = decode_reply(process.stdout.readline())
            if isinstance(reply, (Failure, Checked)):
                replies[reply.id] = reply
        process.stdin.close()
        process.wait(120)
    assert isinstance(replies["missing"], Failure)
    assert isinstance(replies["check"], Checked)
    assert isinstance(replies["predict"], Failure)
    assert "torch is missing" in replies["predict"].message
