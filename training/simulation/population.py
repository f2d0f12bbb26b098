"""Who the simulated patients are: ranges that each patient's measures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Patient", "Site", "draw_patient"]

Sex = Literal["female", "male"]
Site = Literal["prostate", "prostate_bed", "rectum", "cervix", "endometrium"]

_SITES: dict[Sex, tuple[Site, ...]] = {
    "male": ("prostate", "prostate_bed", "rectum"),
    "female": ("rectum", "cervix", "endometrium"),
}


@dataclass(frozen=True)
class Patient:
    """The measures of one simulated patient; mm, cc and degrees.

    Args:
        seed: of everything that is drawn after these.
        sex: decides on organs and proportions.
        site: of the tumor.
        scale: of the skeleton against the average of both sexes.
        femoral_head_radius_mm: of both.
        fat_mm: thickness of the subcutaneous fat at the side of the hips.
        belly_mm: how far the abdomen stands out in front.
        bladder_cc: filling.
        rectum_radius_mm: of the filled rectum, mean over its length.
        rectum_gas: part of the rectum's length that holds gas.
        bowel_contrast_hu: of contrast medium in the bowel; 0 without.
        vessel_hu: of the blood, with or without contrast.
        marrow_hu: of cancellous bone.
        pelvic_tilt_deg: of the whole skeleton about the left–right axis.
        leg_turn_deg: of the legs to the outside.
        deformation_mm: standard deviation of the smooth deformation.
        noise_hu: of the CT at 3 mm.
        couch: whether a table top is in the picture.
    """

    seed: int
    sex: Sex
    site: Site
    scale: float
    femoral_head_radius_mm: float
    fat_mm: float
    belly_mm: float
    bladder_cc: float
    rectum_radius_mm: float
    rectum_gas: float
    bowel_contrast_hu: float
    vessel_hu: float
    marrow_hu: float
    pelvic_tilt_deg: float
    leg_turn_deg: float
    deformation_mm: float
    noise_hu: float
    couch: bool


def draw_patient(seed: int) -> Patient:
    """The patient of a seed; equal seeds give equal patients."""
    rng = np.random.default_rng((seed, 1))
    sex: Sex = "female" if rng.random() < 0.5 else "male"
    sites = _SITES[sex]
    site = sites[int(rng.integers(len(sites)))]

    def normal(mean: float, deviation: float, low: float, high: float) -> float:
        return float(np.clip(rng.normal(mean, deviation), low, high))

    male = sex == "male"
    return Patient(
        seed=seed,
        sex=sex,
        site=site,
        scale=normal(1.02 if male else 0.97, 0.035, 0.88, 1.12),
        femoral_head_radius_mm=normal(24.0 if male else 21.5, 1.2, 18.5, 27.5),
        fat_mm=normal(22 if male else 34, 9, 8, 65),
        belly_mm=normal(12, 14, -12, 60),
        bladder_cc=float(np.clip(rng.lognormal(np.log(190), 0.55), 50, 600)),
        rectum_radius_mm=normal(16, 3.0, 10.5, 25),
        rectum_gas=float(np.clip(rng.beta(0.8, 3.0), 0, 0.8)),
        bowel_contrast_hu=float(rng.uniform(120, 350)) if rng.random() < 0.3 else 0.0,
        vessel_hu=float(rng.uniform(110, 190)) if rng.random() < 0.4 else 45.0,
        marrow_hu=normal(180, 50, 80, 320),
        pelvic_tilt_deg=normal(0, 4, -9, 9),
        leg_turn_deg=normal(10, 6, -5, 25),
        deformation_mm=normal(2.6, 0.7, 1.2, 4.5),
        noise_hu=normal(14, 4, 6, 28),
        couch=bool(rng.random() < 0.7),
    )
