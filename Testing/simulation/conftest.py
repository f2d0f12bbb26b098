from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from DosePredictionLib.case import Case
from training.simulation.phantom import phantom_grid, simulate_anatomy
from training.simulation.population import Site, draw_patient

COARSE_MM = (6.0, 6.0, 6.0)


@cache
def _seed_of(site: Site) -> int:
    return next(seed for seed in range(1000) if draw_patient(seed).site == site)


@cache
def _anatomy(site: Site) -> Case:
    return simulate_anatomy(draw_patient(_seed_of(site)), phantom_grid(COARSE_MM))


@pytest.fixture(scope="session")
def seed_of() -> Callable[[Site], int]:
    """The first seed whose patient has a tumor of a site."""
    return _seed_of


@pytest.fixture(scope="session")
def anatomy() -> Callable[[Site], Case]:
    """A simulated patient of a site on a coarse grid, without a plan."""
    return _anatomy
