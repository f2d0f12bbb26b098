"""Who the simulated patients are: ranges that each patient's measures are drawn from.

Each range stands beside what was published; "assumed" is said where no source was found.

- Bladder: lognormal, median 190 cc. Mean 282 ± 145 cc (89 to 608) at the planning of men asked to
  fill it, DOI 10.1259/bjr/50048151; 112 ± 42 cc after voiding, and 184 to 757 cc by another
  protocol, Cramp, L. et al., J. Med. Radiat. Sci. 63 (2016) 179, DOI 10.1002/jmrs.162. The
  median lies between empty and full, as sites and protocols differ.
- Femoral head: diameter 49 ± 3 mm in men and 44 ± 3 mm in women, "Determination of sex from
  femora", Forensic Sci. Int. 113 (2000) 315.
- Fat at the hips: 31 ± 12 mm of soft tissue, muscle included, over the trochanter of old men,
  Nielson, C. M. et al., J. Clin. Endocrinol. Metab. 97 (2012) 491. That women have about 12 mm
  more is within the 6 to 24 mm that 17,000 CT scans gave. The split from muscle is assumed.
- Rectum: cross section of 7.3 cm² (2.8 to 17.1), which is a radius of 15 mm (9 to 23), on 89
  planning CTs, Stillie, A. L. et al., Clin. Oncol. 21 (2009) 760; patients above 12 cm² should be
  scanned again, DOI 10.1016/j.radonc.2006.10.028.
- Gas in the rectum: seen on 24 % of portal images, Nakamura, N. et al., J. Med. Imaging Radiat.
  Oncol. 58 (2014) 253, DOI 10.1111/1754-9485.12141. Drawn more often, as CT shows less of it, and
  so that a network meets it.
- Pelvic tilt, supine: mean 4.2°, −20.5° to 24.5°, in 1517 patients, DOI
  10.1302/0301-620X.99B2.BJJ-2016-0098.R1; 4.4 ± 6.4° in 30, Murphy, W. S. et al., Clin. Orthop.
  Relat. Res. 471 (2013) 417, DOI 10.1007/s11999-012-2581-3. Drawn around the average skeleton's,
  with 4°: narrower than published.
- Cancellous bone: first lumbar vertebra 226 ± 44 HU below the age of 30, 89 ± 38 HU from 90 on,
  2.5 HU less each year, Jang, S. et al., Radiology 291 (2019) 360, DOI
  10.1148/radiol.2019181648. The mean of 180 HU is that of an age of about 45, not of 65.
- Vessels with contrast: 118 HU in the veins of the pelvis and the legs at 120 kV, Cho, E.-S. et
  al., Korean J. Radiol. 14 (2013) 183, DOI 10.3348/kjr.2013.14.2.183. Arteries are brighter.
- Assumed: size of the skeleton, belly, turn of the legs, deformation, contrast in the bowel, how
  often contrast is given and a table top is seen, and the noise of the CT: in clinical CTs it
  differs by 15 to 35 % between scanners alone (Christianson, O. et al., AJR 205 (2015) W93).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from DosePredictionLib.ranges import Seed
from DosePredictionLib.schema import Range, Share, validated

__all__ = ["Patient", "Site", "draw_patient"]

Sex = Literal["female", "male"]
Site = Literal[
    "prostate", "prostate_bed", "rectum", "cervix", "endometrium", "prostate_only", "nodes"
]

_SITES: dict[Sex, tuple[Site, ...]] = {
    "male": ("prostate", "prostate_bed", "rectum"),
    "female": ("rectum", "cervix", "endometrium"),
}
"""What is drawn; `prostate_only` and `nodes` are set by cohorts of many plans (`plans`)."""

_Hu = Annotated[float, Range(0, 3000)]


@dataclass(frozen=True)
@validated
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

    seed: Seed
    sex: Sex
    site: Site
    scale: Annotated[float, Range(0.5, 2)]
    femoral_head_radius_mm: Annotated[float, Range(5, 60)]
    fat_mm: Annotated[float, Range(0, 200)]
    belly_mm: Annotated[float, Range(-100, 200)]
    bladder_cc: Annotated[float, Range(0, 2000)]
    rectum_radius_mm: Annotated[float, Range(1, 100)]
    rectum_gas: Share
    bowel_contrast_hu: _Hu
    vessel_hu: _Hu
    marrow_hu: _Hu
    pelvic_tilt_deg: Annotated[float, Range(-90, 90)]
    leg_turn_deg: Annotated[float, Range(-90, 90)]
    deformation_mm: Annotated[float, Range(0, 50)]
    noise_hu: _Hu
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
