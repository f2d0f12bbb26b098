"""pyRadPlan's dose engine: what each fluence element of each beam gives to each voxel.

Wahl, N. et al., "pyRadPlan", https://github.com/e0404/pyRadPlan (BSD-3), after matRad:
Wieser, H.-P. et al., Med. Phys. 44 (2017) 2556, DOI 10.1002/mp.12251. The dose engine is the
singular-value pencil beam of Bortfeld, T. et al., Med. Phys. 20 (1993) 311, DOI 10.1118/1.597070.
Nothing of it is imported until it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import sparse

from ..beams.tracing import Anatomy
from ..errors import DosePredictionError
from ..volume import Grid
from .kernels import KernelModel

__all__ = [
    "Setup",
    "dose_grid",
    "element_positions",
    "image_of",
    "influence_by_beam",
    "influence_matrix",
    "kernel_model",
    "patient_of",
    "planner_hu",
    "quiet",
    "require_planner",
    "set_up",
    "smooth_fluences",
]

INSTALL = 'python -m pip install "pyRadPlan==0.5.0" "pydantic<2.13"'
_MACHINE = "Generic"


@dataclass(frozen=True)
class Setup:
    """How an influence matrix is calculated.

    Args:
        gantry_degrees: coplanar beams.
        bixel_mm: width of the fluence elements at the isocenter.
        dose_grid_mm: isotropic.
        lateral_cutoff_mm: how far from its axis a fluence element gives dose.
        isocenter_mm: LPS; None: the target's center of mass.
        offset_mm: of the elements' lattice from the isocenter, along and across the leaves.
    """

    gantry_degrees: Sequence[float]
    bixel_mm: float
    dose_grid_mm: float
    lateral_cutoff_mm: float
    isocenter_mm: tuple[float, float, float] | None = None
    offset_mm: tuple[float, float] = (0.0, 0.0)


def require_planner(purpose: str = "Simulated plans need") -> None:
    """Refuse to go on where pyRadPlan is absent or cannot work.

    Args:
        purpose: how the message begins.

    Raises:
        DosePredictionError: it is absent, or pydantic is one that its dose step fails with.
    """
    try:
        importlib.import_module("pyRadPlan")
    except ImportError as error:
        raise DosePredictionError(
            f"{purpose} pyRadPlan, which cannot be imported ({error}). Install it: {INSTALL}"
        ) from error
    version = importlib.metadata.version("pydantic")
    if tuple(int(part) for part in version.split(".")[:2]) >= (2, 13):
        raise DosePredictionError(
            f"pyRadPlan's dose step fails with pydantic {version}. Install one below 2.13: "
            f"{INSTALL}"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without pyRadPlan's progress bars and messages: its callers have their own."""
    logging.getLogger("pyRadPlan").setLevel(logging.ERROR)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def dose_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The isotropic grid that covers the middle of another, as nearly as whole voxels do."""
    size = tuple(int(n * s / spacing_mm) for n, s in zip(grid.size, grid.spacing, strict=True))
    origin = tuple(
        o + (n * s - count * spacing_mm + spacing_mm - s) / 2
        for o, n, s, count in zip(grid.origin, grid.size, grid.spacing, size, strict=True)
    )
    return Grid(size, (spacing_mm,) * 3, origin)  # type: ignore[arg-type]


def image_of(array: NDArray[Any], grid: Grid) -> sitk.Image:
    """An array `(z, y, x)` as pyRadPlan takes it; the grid is axis-aligned."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    return image


def planner_hu(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """CT values that pyRadPlan turns into a density relative to water, by its own table."""
    from pyRadPlan.ct import default_hlut

    hu, table = np.asarray(default_hlut("photons")).T
    rising = np.concatenate([[True], np.diff(table) > 0])
    return np.interp(density, table[rising], hu[rising]).astype(np.float32)


def patient_of(anatomy: Anatomy) -> tuple[Any, Any]:
    """pyRadPlan's CT and structures: the anatomy's `target` gets the beams, its body the dose."""
    from pyRadPlan.cst import create_cst, create_voi
    from pyRadPlan.ct import create_ct

    grid = anatomy.grid
    ct = create_ct(cube_hu=image_of(planner_hu(anatomy.density), grid))
    masks = (("target", anatomy.targets["target"], "TARGET"), ("body", anatomy.region, "EXTERNAL"))
    vois = [
        create_voi(
            name=name,
            ct_image=ct,
            mask=image_of(mask.astype(np.uint8), grid),
            voi_type=kind,
            objectives=[],
            overlap_priority=order,
        )
        for order, (name, mask, kind) in enumerate(masks)
    ]
    return ct, create_cst(vois, ct=ct)


def set_up(ct: Any, structures: Any, setup: Setup) -> tuple[Any, Any]:
    """pyRadPlan's plan and beams.

    Args:
        ct, structures: pyRadPlan's; what is a target gets beams.
    """
    from pyRadPlan import PhotonPlan, generate_stf

    plan = PhotonPlan(machine=_MACHINE)
    plan.prop_stf = {
        "gantry_angles": [float(angle) for angle in setup.gantry_degrees],
        "couch_angles": [0.0] * len(setup.gantry_degrees),
        "bixel_width": setup.bixel_mm,
    }
    if setup.isocenter_mm is not None:
        plan.prop_stf["iso_center"] = np.asarray(setup.isocenter_mm)
    step = setup.dose_grid_mm
    plan.prop_dose_calc = {
        "geometric_lateral_cutoff": setup.lateral_cutoff_mm,
        "dose_grid": {"resolution": {"x": step, "y": step, "z": step}},
    }
    if any(setup.offset_mm):
        return plan, _shifted_beams(ct, structures, plan, setup.offset_mm)
    return plan, generate_stf(ct, structures, plan)


def _shifted_beams(ct: Any, structures: Any, plan: Any, offset_mm: tuple[float, float]) -> Any:
    """Beams whose lattice of elements does not lie on the isocenter, but beside it."""
    from pyRadPlan.geometry import lps
    from pyRadPlan.stf import validate_stf
    from pyRadPlan.stf.generators import StfGeneratorPhotonIMRT

    offset = np.array([[offset_mm[0]], [0.0], [offset_mm[1]]])

    class Shifted(StfGeneratorPhotonIMRT):
        def _generate_ray_positions_in_isocenter_plane(self, beam: Any) -> NDArray[np.float64]:
            turn = lps.get_beam_rotation_matrix(beam["gantry_angle"], beam["couch_angle"])
            here = turn.T @ (self._target_voxel_coordinates - beam["iso_center"].reshape(3, 1))
            plane = beam["sad"] * here / (beam["sad"] + here[1])
            width = beam["bixel_width"]
            places = width * np.round((plane - offset) / width) + offset
            places[1] = 0.0
            return np.unique(places, axis=1)

    return validate_stf(Shifted(plan).generate(ct, structures))


def influence_matrix(ct: Any, structures: Any, plan: Any, beams: Any) -> Any:
    """pyRadPlan's influence; `physical_dose.flat[0]` is the matrix `(voxel, element)`, Gy."""
    from pyRadPlan import calc_dose_influence

    return calc_dose_influence(ct, structures, beams, plan)


def influence_by_beam(
    ct: Any, structures: Any, plan: Any, beams: Any, heard: Callable[[float], None]
) -> sparse.csc_array:
    """The matrix `(voxel, element)`, Gy, put together beam by beam.

    Args:
        heard: the share done after each beam; may raise to cancel.
    """
    parts = []
    for index, beam in enumerate(beams.beams):
        alone = type(beams)(beams=[beam])
        found = influence_matrix(ct, structures, plan, alone).physical_dose.flat[0]
        parts.append(sparse.csc_array(found).astype(np.float32))
        heard((index + 1) / len(beams.beams))
    return sparse.csc_array(sparse.hstack(parts, format="csc"))


def element_positions(beams: Any) -> list[NDArray[np.float64]]:
    """Of each beam, the elements' places `(element, 2)` along and across the leaves, mm."""
    return [np.array([ray.ray_pos_bev for ray in beam.rays])[:, (0, 2)] for beam in beams.beams]


def smooth_fluences(beams: Any, bixel_mm: float, smoothing_mm: float) -> sparse.csc_array:
    """Non-negative, smooth fluences that an optimizer combines: `(element, element)`.

    Each column is a Gaussian around one element of one beam, with a sum of one. A fluence built
    from them can be delivered; one optimized element by element is ragged.
    """
    blocks = []
    for positions in element_positions(beams):
        squared = ((positions[:, None] - positions[None]) ** 2).sum(axis=2)
        weight = np.exp(-squared / (2 * smoothing_mm**2))
        weight[squared > (1.5 * bixel_mm) ** 2] = 0
        blocks.append(sparse.csc_array((weight / weight.sum(axis=0)).astype(np.float32)))
    return sparse.csc_array(sparse.block_diag(blocks, format="csc"))


def kernel_model(energy_mv: float = 6.0) -> KernelModel:
    """The kernels of pyRadPlan's photon machine."""
    from pyRadPlan.machines import load_from_name

    with quiet():
        machine = load_from_name("photons", _MACHINE)
    kernel = machine.get_kernel_by_energy(energy_mv)
    return KernelModel(
        attenuation_per_mm=float(kernel.m),
        betas_per_mm=np.asarray(kernel.kernel_betas, dtype=float),
        ssds_mm=np.asarray(kernel.kernel_ssds, dtype=float),
        radii_mm=np.asarray(kernel.kernel_pos, dtype=float),
        kernels_per_mm2=np.asarray(kernel.kernel_data, dtype=float),
        penumbra_mm=float(kernel.penumbra),
        sad_mm=float(machine.sad),
    )
