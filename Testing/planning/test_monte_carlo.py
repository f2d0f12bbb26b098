"""Doses by Monte Carlo: the unit is where it is defined, the field where the leaves leave it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from plans import MACHINE
from test_recompute import field, water

from DosePredictionLib.errors import DosePredictionError, PredictionCancelled
from DosePredictionLib.planning import engine, monte_carlo
from DosePredictionLib.planning.monte_carlo import MonteCarloSettings, monte_carlo_dose

pytest.importorskip("pyRadPlan")

FEW = MonteCarloSettings(histories=2000, grid_mm=10.0)


def test_a_field_gives_what_its_monitor_units_say_where_its_leaves_are_open() -> None:
    pytest.importorskip("ompmc")
    # SSD 90, as far as a cube of voxels of 5 mm allows; the right half of the field alone is open.
    beam = field((0, 50), isocenter_mm=(0.0, -52.5, 0.0), mu=100.0)
    found = monte_carlo_dose([beam], water(), engine.kernel_model(), MACHINE, FEW)
    inside, outside = (
        found.dose.array[30 - 6 : 30 + 7, 20 - 3 : 20 + 4, 30 + s - 4 : 30 + s + 5].mean()
        for s in (5, -5)
    )
    # A gray in the middle of a field of 10 cm × 10 cm; half a field scatters less.
    assert 0.8 < inside < 1.05 and outside < 0.3 * inside
    assert 1 < found.noise_percent < 60 and 0 < found.unit_noise < 0.1


def test_it_is_cancelled_and_its_process_ends() -> None:
    pytest.importorskip("ompmc")

    def heard(share: float) -> None:
        raise PredictionCancelled("cancelled")

    with pytest.raises(PredictionCancelled):
        monte_carlo_dose([field((0, 50))], water(), engine.kernel_model(), MACHINE, FEW, heard)


def test_elements_lie_where_the_leaves_are_open() -> None:
    """From the left (gantry 90) the source is at +x, and the field's +X points downwards."""
    source = monte_carlo._source_of([field((10, 30), (-5, 20), gantry=90.0, mu=7.0)], MACHINE)
    np.testing.assert_allclose(source.focus, [[100.0, 0.0, 0.0]], atol=1e-9)
    middle = source.corner + (source.side1 + source.side2) / 2
    open_ = source.weights > 6.9
    np.testing.assert_allclose(middle[open_].mean(axis=0), [0.0, 2.0, 0.75], atol=1e-6)
    area = np.abs(np.cross(source.side1, source.side2)).sum(axis=1)
    assert (source.weights * area).sum() == pytest.approx(7.0 * 2.0 * 2.5, rel=1e-6)


def test_what_fails_in_its_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no cross sections')\n")
    monkeypatch.setattr(monte_carlo, "_SCRIPT", script)
    monkeypatch.setattr(monte_carlo, "require_ompmc", lambda: None)
    with pytest.raises(DosePredictionError, match=r"^ompMC failed: no cross sections$"):
        monte_carlo_dose([field((0, 50))], water(), engine.kernel_model(), MACHINE, FEW)


STUCK = """
import resource, sys
import numpy as np
job, done, run, most = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(most), int(most) + 1))
while int(run) in {stuck}:
    pass
given = np.load(job)
np.savez(done, dose=np.full(given["density"].shape, 1.0 + int(run)), seconds=0.1)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of CPU time")
def test_a_run_that_never_ends_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "stuck.py"
    monkeypatch.setattr(monte_carlo, "_SCRIPT", script)
    monkeypatch.setattr(monte_carlo, "require_ompmc", lambda: None)
    monkeypatch.setattr(monte_carlo, "_SECONDS", 1.0)
    monkeypatch.setattr(monte_carlo, "_SECONDS_A_HISTORY", 0.0)
    case = [field((0, 50))], water(), engine.kernel_model(), MACHINE, FEW
    monkeypatch.setattr(monte_carlo, "_RUNS", 3)
    script.write_text(STUCK.format(stuck="(2,)"))
    heard: list[float] = []
    found = monte_carlo_dose(*case, heard.append)
    assert heard == pytest.approx([each / 6 for each in range(1, 7)])  # the monitor unit's, too
    doses = np.array([1.0, 2.0, 4.0])  # of runs 0, 1 and 3
    assert found.dose.array.max() == pytest.approx(MACHINE.calibration.gy_per_mu, rel=1e-6)
    noise = doses.std(ddof=1) / 3**0.5 / doses.mean()
    assert found.noise.array.max() == pytest.approx(noise, rel=1e-6)
    script.write_text(STUCK.format(stuck="range(2, 6)"))
    with pytest.raises(DosePredictionError, match=r"^ompMC did not end in 4 of 6 runs of 666 "):
        monte_carlo_dose(*case)


def test_without_ompmc_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monte_carlo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DosePredictionError, match="pip install ompmc"):
        monte_carlo.require_ompmc()
