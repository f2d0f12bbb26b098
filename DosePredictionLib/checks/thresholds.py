"""Every threshold of the checks, with its unit in its name."""

from __future__ import annotations

__all__ = [
    "ANATOMICAL_ORDER",
    "BEYOND_HU_CC",
    "BEYOND_PRESCRIPTION",
    "COARSE_MM",
    "COUCH_CC",
    "CT_BEYOND_TARGET_MM",
    "CUT_AREA_SHARE",
    "DENSER_THAN_TISSUE_HU",
    "EXPLAINED_RATIO",
    "FEMORAL_HEAD_CC",
    "FEMORAL_HEAD_MM",
    "GAS_CC",
    "HIGHEST_PLAN_GY",
    "LEFT_OUT_CC",
    "LEFT_OUT_SHARE",
    "LOWEST_DOSE_GY",
    "MAY_OVERLAP",
    "METAL_CC",
    "METAL_CELL_MM",
    "METAL_HU",
    "MUCH_METAL_CC",
    "ORDER_MM",
    "OUTSIDE_ORGAN_SHARE",
    "OUTSIDE_TARGET_CC",
    "OUTSIDE_TARGET_SHARE",
    "OVERLAP_CC",
    "OVERLAP_SHARE",
    "PADDING_HU",
    "PLAN_HIGHEST_MEAN_SHARE",
    "PLAN_LOWEST_MEAN_SHARE",
    "PLAN_LOWEST_PEAK_SHARE",
    "PRESCRIPTION_SHARE",
    "SAME_BEAM_DEGREES",
    "SAME_SHARE",
    "SHEET_MM",
    "SIDE_MM",
    "SPACING_TOLERANCE",
    "TARGET_DOSE_SHARE",
    "TINY_VOXELS",
    "TISSUE_MUST_EXCEED_HU",
    "UNSCALED_SHARE",
]

TINY_VOXELS = 10
COARSE_MM = 4.0
PADDING_HU = -1100.0  # below air and its noise: what scanners write outside the field of view
TISSUE_MUST_EXCEED_HU = -200.0
DENSER_THAN_TISSUE_HU = 800.0
METAL_HU = 2500.0
METAL_CC = 1.0  # dental fillings, markers
MUCH_METAL_CC = 5.0
METAL_CELL_MM = 20.0
OVERLAP_CC = 0.5
OVERLAP_SHARE = 0.10
SAME_SHARE = 0.9
SAME_BEAM_DEGREES = 2.0
OUTSIDE_TARGET_SHARE = 0.01
OUTSIDE_TARGET_CC = 0.2
OUTSIDE_ORGAN_SHARE = 0.10
GAS_CC = 5.0
LEFT_OUT_CC = 0.5
LEFT_OUT_SHARE = 0.05
SIDE_MM = 5.0
ORDER_MM = 10.0
SHEET_MM = 250.0
COUCH_CC = 100.0
CT_BEYOND_TARGET_MM = 50.0
CUT_AREA_SHARE = 0.25
PRESCRIPTION_SHARE = 0.15
UNSCALED_SHARE = 0.01  # where the dose is not scaled, any difference but that of rounding counts
SPACING_TOLERANCE = 0.01
TARGET_DOSE_SHARE = 0.2
BEYOND_HU_CC = 1.0
LOWEST_DOSE_GY = -0.5  # resampling leaves a little below 0
HIGHEST_PLAN_GY = 200.0
BEYOND_PRESCRIPTION = 3.0
# A hot target hides a cold one, never the other way round: D2 % may fall less than the mean.
PLAN_LOWEST_PEAK_SHARE = 0.75
PLAN_LOWEST_MEAN_SHARE = 0.5
PLAN_HIGHEST_MEAN_SHARE = 1.3
EXPLAINED_RATIO = 1.3
# Heads with part of the neck have 40 to 110 cc and reach down to the lesser trochanter at most.
FEMORAL_HEAD_CC = 160.0
FEMORAL_HEAD_MM = 110.0

# Organs that share voxels by definition: marrow fills the femoral heads and surrounds the canal.
MAY_OVERLAP = frozenset(
    {
        frozenset({"BoneMarrow", "Femur_Head_L"}),
        frozenset({"BoneMarrow", "Femur_Head_R"}),
        frozenset({"BoneMarrow", "SpinalCord"}),
    }
)
# (TG-263 name, TG-263 name, axis, what the first is of the second): true in every upright patient.
ANATOMICAL_ORDER = (
    ("Bladder", "Rectum", 1, "anterior"),
    # Centers of the pelvic bones, the sacrum among them, and of the joints.
    ("Femur_Head_L", "BoneMarrow", 1, "anterior"),
    ("Femur_Head_R", "BoneMarrow", 1, "anterior"),
    ("BoneMarrow", "Femur_Head_L", 2, "superior"),
    ("BoneMarrow", "Femur_Head_R", 2, "superior"),
    ("SpinalCord", "Femur_Head_L", 2, "superior"),
    ("SpinalCord", "Femur_Head_R", 2, "superior"),
    ("Bowel_Small", "Bladder", 2, "superior"),
    ("Larynx", "SpinalCord", 1, "anterior"),
    ("Bone_Mandible", "SpinalCord", 1, "anterior"),
    ("Brainstem", "SpinalCord", 2, "superior"),
    ("Brainstem", "Larynx", 2, "superior"),
    ("Bone_Mandible", "Esophagus", 2, "superior"),
)
