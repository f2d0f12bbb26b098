"""Gamma index in three dimensions (Low et al. 1998, doi 10.1118/1.598248).

For each reference voxel, gamma is the least value of `sqrt((dose difference / dose criterion)² +
(distance / distance criterion)²)` over the evaluated dose. The evaluated dose is trilinear between
its voxels, and the least value is sought continuously inside every cell of eight voxels that can
hold it, not on a lattice of samples: there is no interpolation fraction to choose.

Conventions: the plan is the reference, the prediction is evaluated; the dose criterion is a
percentage of the reference's maximum (global) or of the reference voxel's dose (local); voxels
whose reference dose is below the cut-off are not evaluated; gamma of at most 1 passes. Nothing is
evaluated beyond the grid's outermost voxel centers, and nothing is resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError, GeometryError
from ..volume import Volume
from .arrays import as_mask, require_finite, require_same_grid, voxel_mm
from .gamma_search import GammaSearch

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_GAMMA", "Criterion", "GammaResult", "gamma", "gamma_pass_rates", "gammas"]

_CRITERION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d+(?:\.\d+)?)\s*mm\s*\Z", re.IGNORECASE)
MAX_GAMMA = 2.0
"""Where the search ends by default."""

_ROUNDING = 1e-5  # gamma of 1 in the arithmetic of float32


@dataclass(frozen=True)
class Criterion:
    """A dose and a distance criterion.

    Raises:
        DosePredictionError: one of them is not positive.
    """

    dose_percent: float
    distance_mm: float

    def __post_init__(self) -> None:
        values = (self.dose_percent, self.distance_mm)
        if not all(np.isfinite(value) and value > 0 for value in values):
            raise DosePredictionError(
                f"Gamma needs a dose criterion above 0 % and a distance criterion above 0 mm; got "
                f"{self.dose_percent:g}%/{self.distance_mm:g}mm."
            )

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """Read `3%/3mm`.

        Raises:
            DosePredictionError: the text is no such pair.
        """
        match = _CRITERION.match(text)
        if match is None:
            raise DosePredictionError(f"Gamma criterion {text!r} cannot be read; write 3%/3mm.")
        return cls(float(match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"{self.dose_percent:g}%/{self.distance_mm:g}mm"


@dataclass(frozen=True, eq=False)
class GammaResult:
    """Gamma of every evaluated voxel.

    Args:
        criterion: what it was computed with.
        gamma: `(z, y, x)` float32, 0 where not evaluated; on the device of the doses.
        evaluated: `(z, y, x)` bool: the reference reaches the cut-off.
        normalization_gy: dose that a global criterion and the cut-off are a percentage of.
        local: whether the dose criterion is a percentage of each voxel's own reference dose.
        lower_cutoff_percent: of the normalization.
        max_gamma: cap, or None.
    """

    criterion: Criterion
    gamma: Any = field(repr=False)
    evaluated: Any = field(repr=False)
    normalization_gy: float
    local: bool
    lower_cutoff_percent: float
    max_gamma: float | None

    def pass_rate_percent(self, mask: Volume | Any | None = None) -> float | None:
        """Percent of evaluated voxels (within `mask`) with gamma of at most 1.

        None where no voxel was evaluated.
        """
        values = self._values(mask)
        if values.size == 0:
            return None
        return 100.0 * float(np.count_nonzero(values <= 1.0 + _ROUNDING)) / values.size

    def mean(self, mask: Volume | Any | None = None) -> float | None:
        """Mean gamma of evaluated voxels; None where there are none."""
        values = self._values(mask)
        return float(values.mean(dtype=np.float64)) if values.size else None

    def voxels(self, mask: Volume | Any | None = None) -> int:
        """Number of evaluated voxels."""
        return int(self._values(mask).size)

    def _values(self, mask: Volume | Any | None) -> NDArray[np.float32]:
        evaluated, values = _on_host(self.evaluated), _on_host(self.gamma)
        if mask is not None:
            require_same_grid(values, _on_host_mask(mask), "The gamma map", "the mask")
            evaluated = evaluated & _on_host_mask(mask)
        return values[evaluated]

    def as_json(self, structures: Mapping[str, Volume] | None = None) -> dict[str, Any]:
        """Pass rates and every convention that they rest on."""
        named = {} if structures is None else structures
        return {
            "pass_rate_percent": self.pass_rate_percent(),
            "mean": self.mean(),
            "voxels": self.voxels(),
            "structures": {
                name: {
                    "pass_rate_percent": self.pass_rate_percent(mask),
                    "voxels": self.voxels(mask),
                }
                for name, mask in named.items()
            },
            "reference": "plan",
            "evaluated": "prediction",
            "normalization": "local" if self.local else "global",
            "normalization_gy": self.normalization_gy,
            "lower_cutoff_percent": self.lower_cutoff_percent,
            "interpolated": True,
            "pass_at": 1.0,
            "max_gamma": self.max_gamma,
        }


def gamma(
    reference: Volume | Any,
    evaluated: Volume | Any,
    criterion: Criterion | str = "3%/3mm",
    *,
    spacing_mm: Sequence[float] | None = None,
    lower_cutoff_percent: float = 10.0,
    local: bool = False,
    normalization_gy: float | None = None,
    max_gamma: float | None = MAX_GAMMA,
) -> GammaResult:
    """Gamma of `evaluated` against `reference`.

    Args:
        reference: the plan's dose, Gy; a `Volume`, or an array or tensor `(z, y, x)`. A tensor on
            a GPU is computed there.
        evaluated: the predicted dose, Gy, on the same grid.
        criterion: `3%/3mm`, or a `Criterion`.
        spacing_mm: voxel spacing (x, y, z), for arrays and tensors only.
        lower_cutoff_percent: voxels whose reference is below this part of the normalization are
            left out; voxels without reference dose always are.
        local: take the dose criterion as a percentage of each voxel's own reference dose.
        normalization_gy: instead of the reference's maximum.
        max_gamma: stop searching at this gamma and report no more than it. Above 1 it changes no
            pass rate; None searches on, which takes ten times as long between unlike doses.

    Raises:
        GeometryError: the grids differ, or have a single voxel along an axis.
        DosePredictionError: a criterion of 0, a dose that is not finite, or a reference without
            any dose.
    """
    (result,) = gammas(
        reference,
        evaluated,
        [criterion],
        spacing_mm=spacing_mm,
        lower_cutoff_percent=lower_cutoff_percent,
        local=local,
        normalization_gy=normalization_gy,
        max_gamma=max_gamma,
    ).values()
    return result


def gammas(
    reference: Volume | Any,
    evaluated: Volume | Any,
    criteria: Sequence[Criterion | str],
    *,
    spacing_mm: Sequence[float] | None = None,
    lower_cutoff_percent: float = 10.0,
    local: bool = False,
    normalization_gy: float | None = None,
    max_gamma: float | None = MAX_GAMMA,
) -> dict[str, GammaResult]:
    """Gamma for several criteria, by their text; the doses are prepared once. See `gamma`."""
    parsed = [Criterion.parse(c) if isinstance(c, str) else c for c in criteria]
    require_same_grid(reference, evaluated, "The reference dose", "the evaluated dose")
    spacing = voxel_mm(reference, spacing_mm)
    doses = _as_tensor(reference, "The reference"), _as_tensor(evaluated, "The evaluated dose")
    search = GammaSearch(doses[0], doses[1].to(doses[0].device), spacing)
    top_gy = float(doses[0].max()) if normalization_gy is None else float(normalization_gy)
    if not top_gy > 0:
        raise DosePredictionError(
            f"Gamma needs a reference with dose; the normalization is {top_gy:g} Gy."
        )
    if max_gamma is not None and not max_gamma > 0:
        raise DosePredictionError(f"max_gamma must be above 0; got {max_gamma:g}.")
    chosen = (doses[0] >= lower_cutoff_percent / 100.0 * top_gy) & (doses[0] > 0)
    as_numpy = not _is_tensor(reference)
    results = {}
    for each in parsed:
        with _one_thread():
            values = search.run(
                each.dose_percent, each.distance_mm, chosen, None if local else top_gy, max_gamma
            )
        results[str(each)] = GammaResult(
            criterion=each,
            gamma=values.numpy() if as_numpy else values,
            evaluated=chosen.numpy() if as_numpy else chosen,
            normalization_gy=top_gy,
            local=local,
            lower_cutoff_percent=lower_cutoff_percent,
            max_gamma=max_gamma,
        )
    return results


def gamma_pass_rates(
    reference: Volume,
    prediction: Volume,
    criteria: Sequence[Criterion | str],
    structures: Mapping[str, Volume] | None = None,
    max_gamma: float | None = MAX_GAMMA,
) -> dict[str, dict[str, Any]]:
    """Pass rates by criterion with the design's defaults, as `evaluate` prints them."""
    results = gammas(reference, prediction, criteria, max_gamma=max_gamma)
    return {name: result.as_json(structures) for name, result in results.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """The search is many small steps: threads would wait for each other longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_tensor(values: Any) -> bool:
    return hasattr(values, "detach")


def _as_tensor(values: Volume | Any, label: str) -> torch.Tensor:
    """A contiguous float32 tensor `(z, y, x)`, checked."""
    import torch

    array: Any = values.array if isinstance(values, Volume) else values
    if _is_tensor(array):
        tensor = array.detach().to(torch.float32).contiguous()
        finite = bool(torch.isfinite(tensor).all())
    else:
        host = np.ascontiguousarray(array, dtype=np.float32)
        require_finite(host, label)
        tensor, finite = torch.from_numpy(host), True
    if not finite:
        raise DosePredictionError(f"{label} holds voxels that are NaN or infinite.")
    if tensor.ndim != 3 or min(tensor.shape) < 2:
        raise GeometryError(
            f"Gamma needs two voxels or more along each of z, y and x; got {tuple(tensor.shape)}."
        )
    return tensor


def _on_host(values: Any) -> NDArray:
    return values.cpu().numpy() if _is_tensor(values) else values


def _on_host_mask(mask: Volume | Any) -> NDArray[np.bool_]:
    return as_mask(mask)
