from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from DosePredictionLib.case import Case
from training.simulation.phantom import phantom_grid, simulate_anatomy
from training.simulation.population import Patient, Site, draw_patient

COARSE_MM = (6.0, 6.0, 6.0)


_SET: dict[Site, Site] = {"prostate_only": "prostate", "nodes": "cervix"}
"""Sites that cohorts of many plans set → a site that is drawn, of the same sex."""


@cache
def _patient_of(site: Site) -> Patient:
    drawn = _SET.get(site, site)
    patients = (draw_patient(seed) for seed in range(1000))
    return replace(next(patient for patient in patients if patient.site == drawn), site=site)


@cache
def _anatomy(site: Site) -> Case:
    return simulate_anatomy(_patient_of(site), phantom_grid(COARSE_MM))


@pytest.fixture(scope="session")
def patient_of() -> Callable[[Site], Patient]:
    """The first patient with a tumor of a site."""
    return _patient_of


@pytest.fixture(scope="session")
def anatomy() -> Callable[[Site], Case]:
    """A simulated patient of a site on a coarse grid, without a plan."""
    return _anatomy
