"""How far a predicted dose lies from a reference.

The dose score and the DVH score follow the OpenKBP challenge (Babier et al. 2021,
doi 10.1002/mp.14845) to the letter: whole voxels and `numpy.percentile`, not the sub-voxel DVH of
`dvh`. A mask in these measures is boolean; an occupancy counts as inside from one half on, except
where a docstring says that it weighs. Nothing here resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import DosePredictionError
from ..geometry import bounding_box
from ..volume import Volume
from .arrays import as_array, as_mask, require_finite, require_same_grid, voxel_mm

__all__ = [
    "ORGAN_ENDPOINTS",
    "SSIM_K1",
    "SSIM_K2",
    "TARGET_ENDPOINTS",
    "TARGET_PERCENTILES",
    "ErrorSums",
    "bias",
    "challenge_endpoints",
    "dose_score",
    "dvh_score",
    "dvh_score_terms",
    "error_sums",
    "error_sums_in",
    "isodose_dice",
    "mae",
    "mae_above",
    "masked_mae_after_d97",
    "ssim",
    "ssim_window",
    "tenth_cc_percentile",
]

Doses = Volume | Any
"""A `Volume`, or an array or tensor `(z, y, x)`."""

TARGET_ENDPOINTS = ("D99_gy", "D95_gy", "D1_gy")
ORGAN_ENDPOINTS = ("D0.1cc_gy", "Dmean_gy")
TARGET_PERCENTILES = {"D99_gy": 1.0, "D95_gy": 5.0, "D1_gy": 99.0}
"""D99 is the dose that 99 % of the volume reaches: the lowest percentile of its voxels."""
_TENTH_CC_MM3 = 100.0
_ISODOSE_LEVELS = tuple(range(10, 101, 10))
SSIM_K1, SSIM_K2 = 0.01, 0.03  # Wang et al. 2004, doi 10.1109/TIP.2003.819861
_SSIM_RADIUS = 3
_SSIM_SIGMA = 1.5
_SSIM_SLAB = 32  # planes filtered at once


@dataclass(frozen=True)
class ErrorSums:
    """Differences added up over a region; sums of blocks are those of the whole.

    Args:
        absolute_gy: Σ |prediction − reference|, weighted by occupancy.
        signed_gy: Σ (prediction − reference), likewise.
        weight: voxels of the region.
    """

    absolute_gy: float = 0.0
    signed_gy: float = 0.0
    weight: float = 0.0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.absolute_gy + other.absolute_gy,
            self.signed_gy + other.signed_gy,
            self.weight + other.weight,
        )

    @property
    def mae_gy(self) -> float | None:
        """Mean absolute difference; None for an empty region."""
        return self.absolute_gy / self.weight if self.weight > 0 else None

    @property
    def bias_gy(self) -> float | None:
        """Mean difference; None for an empty region."""
        return self.signed_gy / self.weight if self.weight > 0 else None


def error_sums(prediction: Doses, reference: Doses, region: Doses | None = None) -> ErrorSums:
    """The differences of two doses in a region, whose occupancy weighs; None: everywhere."""
    return error_sums_in(prediction, reference, [region])[0]


def error_sums_in(
    prediction: Doses, reference: Doses, regions: Sequence[Doses | None]
) -> list[ErrorSums]:
    """As `error_sums`, in several regions at the cost of little more than one."""
    predicted, referred = _pair(prediction, reference)
    for region in regions:
        if region is not None:
            require_same_grid(prediction, region, "The prediction", "the region")
    difference = predicted - referred
    return [_sums(difference, None if r is None else as_array(r)) for r in regions]


def dose_score(prediction: Doses, reference: Doses, mask: Doses) -> float | None:
    """OpenKBP dose score in Gy; lower is better.

    The absolute difference is summed over *all* voxels, as in the challenge, and divided by the
    number of voxels of `mask`: `possible_dose_mask`, or Body where there is none. Dose predicted
    outside the mask counts against the prediction; zero it first if it is not meant.

    Returns:
        None for an empty mask.
    """
    predicted, referred = _pair(prediction, reference)
    require_same_grid(prediction, mask, "The prediction", "the dose mask")
    voxels = int(np.count_nonzero(as_mask(mask)))
    if voxels == 0:
        return None
    return _sums(predicted - referred, None).absolute_gy / voxels


def challenge_endpoints(
    dose: Doses, mask: Doses, is_target: bool, spacing_mm: Sequence[float] | None = None
) -> dict[str, float]:
    """The challenge's endpoints of one structure, by voxel percentiles.

    Targets: D99 = percentile 1, D95 = percentile 5, D1 = percentile 99. Organs: the mean, and
    D0.1cc = percentile `100 - 100 n / voxels` with `n = max(1, round(100 mm³ / voxel))`. For an
    organ of fewer than n voxels, where the challenge is undefined, it is the lowest voxel.

    Returns:
        Gy by endpoint key; empty for an empty structure.
    """
    values = as_array(dose)[as_mask(mask)].astype(np.float64)
    if values.size == 0:
        return {}
    if is_target:
        return {key: float(np.percentile(values, p)) for key, p in TARGET_PERCENTILES.items()}
    voxel_mm3 = float(np.prod(voxel_mm(dose, spacing_mm)))
    percentile = tenth_cc_percentile(values.size, voxel_mm3)
    return {"D0.1cc_gy": float(np.percentile(values, percentile)), "Dmean_gy": float(values.mean())}


def tenth_cc_percentile(voxels: int, voxel_mm3: float) -> float:
    """The percentile of an organ's voxels that the challenge calls D0.1cc."""
    count = max(1.0, float(np.round(_TENTH_CC_MM3 / voxel_mm3)))
    return max(0.0, 100.0 - count / voxels * 100.0)


def dvh_score_terms(
    prediction: Doses,
    reference: Doses,
    structures: Mapping[str, Doses],
    *,
    targets: Iterable[str],
    organs: Iterable[str] | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> dict[tuple[str, str], float]:
    """Absolute differences of the challenge's endpoints, (structure, endpoint key) → Gy.

    Args:
        prediction: predicted dose, Gy.
        reference: the plan's dose, Gy, on the same grid.
        structures: masks by name.
        targets: names scored as targets.
        organs: names scored as organs; without it every structure that is not a target. A name
            without a mask, or with an empty one, is skipped as in the challenge.
        spacing_mm: voxel spacing (x, y, z), for arrays only.
    """
    predicted, referred = _pair(prediction, reference)
    spacing = voxel_mm(prediction, spacing_mm)
    target_names = tuple(targets)
    organ_names = tuple(structures) if organs is None else tuple(organs)
    terms: dict[tuple[str, str], float] = {}
    for name in dict.fromkeys((*organ_names, *target_names)):
        if name not in structures:
            continue
        require_same_grid(prediction, structures[name], "The prediction", name)
        mask = as_mask(structures[name])
        is_target = name in target_names
        ours = challenge_endpoints(predicted, mask, is_target, spacing)
        theirs = challenge_endpoints(referred, mask, is_target, spacing)
        terms.update({(name, key): abs(ours[key] - theirs[key]) for key in ours})
    return terms


def dvh_score(
    prediction: Doses,
    reference: Doses,
    structures: Mapping[str, Doses],
    *,
    targets: Iterable[str],
    organs: Iterable[str] | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> float | None:
    """OpenKBP DVH score of one patient in Gy: the mean of `dvh_score_terms`; lower is better.

    A cohort's score is the mean over the terms of all patients pooled, not the mean of this.

    Returns:
        None when no structure can be scored.
    """
    terms = dvh_score_terms(
        prediction, reference, structures, targets=targets, organs=organs, spacing_mm=spacing_mm
    )
    return float(np.mean(list(terms.values()))) if terms else None


def mae(prediction: Doses, reference: Doses, region: Doses | None = None) -> float | None:
    """Mean absolute difference in Gy; an occupancy in `region` weighs. None for an empty region."""
    return error_sums(prediction, reference, region).mae_gy


def bias(prediction: Doses, reference: Doses, region: Doses | None = None) -> float | None:
    """Mean of prediction - reference in Gy; an occupancy weighs. None for an empty region."""
    return error_sums(prediction, reference, region).bias_gy


def mae_above(
    prediction: Doses, reference: Doses, threshold_gy: float = 5.0, region: Doses | None = None
) -> float | None:
    """Mean absolute difference in Gy where the reference exceeds a dose, within `region`."""
    predicted, referred = _pair(prediction, reference)
    chosen = referred > threshold_gy
    if region is not None:
        require_same_grid(prediction, region, "The prediction", "the region")
        chosen &= as_mask(region)
    return _sums(predicted - referred, chosen).mae_gy


def masked_mae_after_d97(
    prediction: Doses,
    reference: Doses,
    *,
    target: Doses,
    body: Doses,
    prescription_gy: float,
    threshold_gy: float = 5.0,
) -> float | None:
    """Masked MAE of the GDP-HMM challenge (AAPM 2025, arXiv 2501.11803) in Gy.

    The reference is scaled until its D97 in `target` (voxel percentile 3) is the prescription.
    Absolute differences are summed over body voxels where either dose exceeds the threshold, and
    divided by the body voxels where the scaled reference does. The prediction is not scaled.

    Returns:
        None for an empty target, a target without dose, or a reference below the threshold.
    """
    predicted, referred = _pair(prediction, reference)
    for label, mask in (("the target", target), ("the body", body)):
        require_same_grid(prediction, mask, "The prediction", label)
    in_target = referred[as_mask(target)]
    if in_target.size == 0:
        return None
    d97_gy = float(np.percentile(in_target, 3))
    if d97_gy <= 0:
        return None
    inside = as_mask(body)
    predicted, referred = predicted[inside], referred[inside] * (prescription_gy / d97_gy)
    high = referred > threshold_gy
    either = high | (predicted > threshold_gy)
    voxels = int(np.count_nonzero(high))
    if voxels == 0:
        return None
    return float(np.abs(referred - predicted)[either].sum(dtype=np.float64) / voxels)


def ssim(
    prediction: Doses, reference: Doses, *, data_range_gy: float, region: Doses | None = None
) -> float | None:
    """3D structural similarity, mean over `region` (Body); 1 for equal doses.

    Gaussian window of 7³ voxels, σ 1.5 voxels, K1 0.01, K2 0.03, the edge's value beyond the grid,
    weighted covariance without Bessel's correction. `data_range_gy` is the prescription.

    Returns:
        None for an empty region.

    Raises:
        DosePredictionError: the range is not positive.
    """
    if not data_range_gy > 0:
        raise DosePredictionError(f"SSIM needs a positive data range; got {data_range_gy} Gy.")
    predicted, referred = _pair(prediction, reference)
    inside = np.ones(predicted.shape, dtype=bool) if region is None else as_mask(region)
    require_same_grid(predicted, inside, "The prediction", "the region")
    box = bounding_box(inside, _SSIM_RADIUS)
    if box is None:
        return None
    x, y, inside = predicted[box], referred[box], inside[box]
    total = 0.0
    for start in range(0, x.shape[0], _SSIM_SLAB):
        stop = min(start + _SSIM_SLAB, x.shape[0])
        # The window's reach beyond the slab is filtered with it, and dropped.
        around = slice(max(0, start - _SSIM_RADIUS), stop + _SSIM_RADIUS)
        similarity = _similarity(x[around], y[around], data_range_gy)
        first = start - around.start
        kept = similarity[first : first + stop - start]
        total += float(kept[inside[start:stop]].sum(dtype=np.float64))
    return total / float(np.count_nonzero(inside))


def _similarity(x: NDArray, y: NDArray, data_range_gy: float) -> NDArray:
    """Local similarity of each voxel of two blocks."""
    x, y = x.astype(np.float32), y.astype(np.float32)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    square = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    # var(x) + var(y) needs one filtering of x² + y²; the products of means are reused.
    spread = _window_mean(x * x + y * y) - square
    shared = _window_mean(x * y) - product
    c1, c2 = (SSIM_K1 * data_range_gy) ** 2, (SSIM_K2 * data_range_gy) ** 2
    return (2 * product + c1) * (2 * shared + c2) / ((square + c1) * (spread + c2))


def isodose_dice(
    prediction: Doses,
    reference: Doses,
    prescription_gy: float,
    levels_percent: Iterable[float] = _ISODOSE_LEVELS,
    region: Doses | None = None,
) -> dict[float, float | None]:
    """Dice of the two isodose volumes at percentages of the prescription, by voxels.

    Returns:
        Level → 2 |A and B| / (|A| + |B|); None where neither dose reaches the level.
    """
    predicted, referred = _pair(prediction, reference)
    if region is not None:
        inside = as_mask(region)
        predicted, referred = predicted[inside], referred[inside]
    result: dict[float, float | None] = {}
    for level in levels_percent:
        dose_gy = level / 100.0 * prescription_gy
        ours, theirs = predicted >= dose_gy, referred >= dose_gy
        total = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
        shared = int(np.count_nonzero(ours & theirs))
        result[level] = 2.0 * shared / total if total else None
    return result


def _pair(prediction: Doses, reference: Doses) -> tuple[NDArray, NDArray]:
    """Both doses as floating arrays on one grid, finite."""
    require_same_grid(prediction, reference, "The prediction", "the reference")
    arrays = []
    for dose, label in ((prediction, "The prediction"), (reference, "The reference")):
        array = as_array(dose)
        if not np.issubdtype(array.dtype, np.floating) or array.dtype.itemsize < 4:
            array = array.astype(np.float32)
        require_finite(array, label)
        arrays.append(array)
    return arrays[0], arrays[1]


def _sums(difference: NDArray, region: NDArray | None) -> ErrorSums:
    """Sums of a difference over a mask, or weighted by an occupancy."""
    weight = float(difference.size)
    if region is not None:
        is_mask = region.dtype == bool
        difference = difference[region] if is_mask else difference * region
        weight = float(difference.size) if is_mask else float(region.sum(dtype=np.float64))
    signed = float(difference.sum(dtype=np.float64))
    return ErrorSums(float(np.abs(difference).sum(dtype=np.float64)), signed, weight)


def ssim_window() -> NDArray[np.float64]:
    """The seven weights of SSIM's Gaussian window along one axis."""
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    window = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    return window / window.sum()


def _window_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean under the 7³ Gaussian window; beyond the block the edge's value goes on."""
    window = ssim_window()
    for axis in range(values.ndim):
        values = ndimage.correlate1d(values, window, axis=axis, mode="nearest")
    return values
