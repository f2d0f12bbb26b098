"""What the worker does beside predicting: preflight and report, over the real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, pelvis_case

from DosePredictionLib.case import Prescription
from DosePredictionLib.errors import ModelError
from DosePredictionLib.worker.exchange import write_case
from DosePredictionLib.worker.messages import (
    Check,
    Checked,
    Failure,
    Predict,
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
    checked = check(request)
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
        return any("prescri" in finding.id for finding in check(request).findings)

    assert unlike(30.0)
    assert not unlike(70.0)


def test_a_model_that_has_gone_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="vanished is not installed"):
        check(Check("c", str(folder), "vanished"))


def test_messages_survive_the_wire(folder: Path) -> None:
    request = Check("c", str(folder), "openkbp-two-stage", {"PTV70": "PTV", "Larynx": None})
    assert decode_request(encode_message(request)) == request
    report = WriteReport("r", str(folder), "prediction", "report.html")
    assert decode_request(encode_message(report)) == report
    checked = check(request)
    assert decode_reply(encode_message(checked)) == checked


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
        process.wait(30)
    assert isinstance(replies["missing"], Failure)
    assert isinstance(replies["check"], Checked)
    assert isinstance(replies["predict"], Failure)
    assert "torch is missing" in replies["predict"].message
