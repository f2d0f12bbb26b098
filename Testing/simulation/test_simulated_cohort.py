"""Cohorts of simulated cases: shares, refusals; one made and resumed where pyRadPlan is."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from training.__main__ import main
from training.simulation import cohort
from training.simulation.command import _share
from training.simulation.settings import CohortSettings, PlanLimits, PlanSettings

COARSE = CohortSettings(
    seed=1,
    spacing_mm=(6.0, 6.0, 6.0),
    plan=PlanSettings(beams=3, bixel_mm=20.0, dose_grid_mm=10.0, iterations=15),
    # Three beams on a coarse grid cannot reach what nine do.
    limits=PlanLimits(near_maximum=1.4, conformity=0.2, hottest_outside=1.4),
)


def test_six_of_nine_cases_train_one_validates_two_test() -> None:
    for start in (0, 5, 90):
        counts = Counter(cohort.split_of(index) for index in range(start, start + 9))
        assert counts == {"training": 6, "validation": 1, "test": 2}
    assert {cohort.split_of(index) for index in range(4)} == {"training", "validation", "test"}


@pytest.mark.parametrize(("text", "share"), [("0/1", (0, 1)), ("3/10", (3, 10)), ("9/10", (9, 10))])
def test_a_share_is_read(text: str, share: tuple[int, int]) -> None:
    assert _share(text) == share


@pytest.mark.parametrize("text", ["3", "10/10", "-1/4", "a/b", "1/2/3", "0/0"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="K"):
        _share(text)


def test_shares_cover_a_cohort_once() -> None:
    taken = [index for first in range(4) for index in range(first, 10, 4)]
    assert sorted(taken) == list(range(10))


def test_a_case_is_another_for_every_seed_index_and_attempt() -> None:
    seeds = {cohort.patient_seed(s, i, a) for s in range(4) for i in range(20) for a in range(3)}
    assert len(seeds) == 240


def test_another_cohorts_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "require_planner", lambda: None)
    assert cohort.simulate(tmp_path, COARSE, [], 1) == []
    assert cohort.simulate(tmp_path, COARSE, [], 1) == []
    for other, said in (
        (replace(COARSE, seed=COARSE.seed + 1), f"seed {COARSE.seed}, not {COARSE.seed + 1}"),
        (
            replace(COARSE, prescription_gy=50.4),
            f"prescription_gy {COARSE.prescription_gy}, not 50.4",
        ),
    ):
        with pytest.raises(DosePredictionError, match=rf"another cohort \({said}\)\."):
            cohort.simulate(tmp_path, other, [], 1)


def test_a_folder_written_before_limits_were_settings_is_still_its_cohorts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "require_planner", lambda: None)
    settings = CohortSettings(seed=45)
    cohort.simulate(tmp_path, settings, [], 1)
    written = json.loads((tmp_path / "cohort.json").read_text())
    del written["limits"]
    (tmp_path / "cohort.json").write_text(json.dumps(written))
    assert cohort.simulate(tmp_path, settings, [], 1) == []


def test_the_command_says_in_one_line_that_pyradplan_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyRadPlan", None)
    folder = tmp_path / "cohort"
    assert main(["simulate", "--cases", "4", "--seed", "1", "--output", str(folder)]) == 2
    said = capsys.readouterr().err.strip()
    assert "python -m pip install" in said and "\n" not in said
    assert not folder.exists()


_MAKE = """
from test_simulated_cohort import COARSE
from pathlib import Path
import sys
from training.simulation.cohort import simulate
if __name__ == "__main__":
    simulate(Path(sys.argv[1]), COARSE, range(4), 1)
"""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the cases that are complete."""
    files = (p for p in folder.rglob("*.nii.gz") if ".partial-" not in str(p))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def worker_of(process: subprocess.Popen[bytes]) -> int:
    """The process that plans: of the two children the one that is no resource tracker."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return max(map(int, tasks))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_cohort_of_four_survives_a_killed_worker(tmp_path: Path) -> None:
    pytest.importorskip("pyRadPlan")
    folder, script = tmp_path / "cohort", tmp_path / "make.py"
    script.write_text(_MAKE)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "Testing", Path(__file__).parent)))
    command = [sys.executable, str(script), str(folder)]
    environment = {**os.environ, "PYTHONPATH": paths}
    making = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while not list(folder.glob("records/*.json")) and making.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    os.kill(worker_of(making), signal.SIGKILL)
    _, said = making.communicate(timeout=120)
    assert making.returncode and b"A worker died" in said
    before = digests(folder)
    assert 0 < len({Path(name).parent for name in before}) < 4

    records = cohort.simulate(folder, COARSE, range(4), 1)
    assert [record.name for record in records] == [f"sim_1_{index:04d}" for index in range(4)]
    after = digests(folder)
    assert before.items() <= after.items()
    for index, record in enumerate(records):
        assert record.split == cohort.split_of(index)
        case = read_case(folder / record.split / record.name)
        assert case.plan_dose is not None and case.prescription is not None
        assert record.quality.coverage == pytest.approx(1.0, abs=0.01)
