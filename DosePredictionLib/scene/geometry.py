"""Where voxels lie: RAS of the scene, LPS of the library, transforms between them.

Matrices are 4×4 numpy arrays on column vectors. A `Frame` is the coordinate system of a `Case`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from ..errors import GeometryError
from ..volume import Grid, Volume

__all__ = [
    "LPS_FROM_RAS",
    "Frame",
    "array_of_image",
    "case_frame",
    "general_to_world",
    "grid_in",
    "image_size",
    "index_to_ras",
    "inverse",
    "is_rigid",
    "linear_to_world",
    "matrix_of",
    "on_straight_grid",
    "resliced",
    "vtk_matrix",
]

Matrix = NDArray[np.float64]

LPS_FROM_RAS: Matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
_RIGID_TOLERANCE = 1e-4
_LATTICE = 12  # positions per axis at which a warped volume's extent is sought


@dataclass(frozen=True)
class Frame:
    """The coordinate system of a case.

    Args:
        to_world: from LPS mm of the case to RAS mm of the scene's world.
    """

    to_world: Matrix

    @property
    def from_world(self) -> Matrix:
        """From RAS mm of the scene's world to LPS mm of the case."""
        return inverse(self.to_world)


def case_frame(ct: Any) -> Frame:
    """The frame that a CT gives its case: the CT's own, in which the patient was scanned.

    A rigid parent transform stays outside (a few degrees of a registration would only make the
    case oblique), unless it turns one patient axis into another: then the scanner's axes were
    wrong, and the case lives in the world's.
    """
    transform = linear_to_world(ct)
    if transform is None or not is_rigid(transform):
        return Frame(LPS_FROM_RAS)
    turned = LPS_FROM_RAS @ transform @ LPS_FROM_RAS
    nearest = np.abs(turned[:3, :3]).argmax(axis=0)
    keeps_axes = list(nearest) == [0, 1, 2] and bool(np.all(np.diag(turned)[:3] > 0))
    return Frame(transform @ LPS_FROM_RAS if keeps_axes else LPS_FROM_RAS)


def grid_in(frame: Frame, node: Any, local_matrix: Matrix, size: tuple[int, int, int]) -> Grid:
    """The grid of voxels of a transformable node.

    Args:
        local_matrix: index (x, y, z) → the node's RAS, before its parent transform.

    Raises:
        GeometryError: the axes are sheared, or the transform to the world is not linear.
    """
    transform = linear_to_world(node)
    if transform is None:
        raise GeometryError(f"{node.GetName()} is under a transform that is not linear.")
    if np.array_equal(frame.to_world, transform @ LPS_FROM_RAS):
        return Grid.from_matrix(size, LPS_FROM_RAS @ local_matrix)  # exact, no inverse
    return Grid.from_matrix(size, frame.from_world @ transform @ local_matrix)


def linear_to_world(node: Any) -> Matrix | None:
    """A node's transform to the world, RAS; None if it is not linear."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return matrix_of(matrix)


def general_to_world(node: Any) -> Any:
    """A node's transform to the world as a vtkGeneralTransform, RAS."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), None, transform
    )
    return transform


def is_rigid(matrix: Matrix) -> bool:
    """Whether a matrix turns and moves only: no scaling, shear or mirror."""
    turn = matrix[:3, :3]
    orthonormal = np.abs(turn.T @ turn - np.eye(3)).max() <= _RIGID_TOLERANCE
    return bool(orthonormal and np.linalg.det(turn) > 0)


def index_to_ras(volume: Any) -> Matrix:
    """A volume node's index (x, y, z) → RAS, before its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix_of(matrix)


def matrix_of(matrix: Any) -> Matrix:
    """A vtkMatrix4x4 as numpy."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def vtk_matrix(matrix: Matrix) -> Any:
    """A numpy matrix as vtkMatrix4x4."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel())
    return result


def inverse(matrix: Matrix) -> Matrix:
    """The inverse of a 4×4 matrix."""
    return np.linalg.inv(matrix).astype(np.float64)


def image_size(image: Any) -> tuple[int, int, int]:
    """Voxels along (x, y, z)."""
    x, y, z = image.GetDimensions()
    return (x, y, z)


def array_of_image(image: Any) -> NDArray:
    """The voxels `(z, y, x)`: the image's own memory, not a copy."""
    scalars = image.GetPointData().GetScalars()
    return vtk_to_numpy(scalars).reshape(image_size(image)[::-1])


def on_straight_grid(node: Any) -> tuple[Volume, Grid]:
    """A volume under a transform that warps, shears or scales, resampled in the world.

    Returns:
        The volume in LPS mm of the world: the node's own axes and spacing, large enough for all of
        it; outside lies the lowest value. The node itself is untouched.
    """
    image, local = node.GetImageData(), index_to_ras(node)
    own = Grid.from_matrix(image_size(image), LPS_FROM_RAS @ local)
    lattice = [np.linspace(-0.5, n - 0.5, _LATTICE) for n in own.size]
    transform = general_to_world(node)
    ras = [
        transform.TransformPoint(*(local[:3, :3] @ index + local[:3, 3]))
        for index in product(*lattice)
    ]
    index = own.index_from_world(np.asarray(ras) @ LPS_FROM_RAS[:3, :3])
    low = np.floor(index.min(axis=0) + 0.5)
    size = np.maximum(np.ceil(index.max(axis=0) - low + 0.5).astype(int), 1)
    grid = own.cropped(list(low), list(size))
    outside = float(image.GetScalarRange()[0])
    array = resliced(image, local, transform, grid, Frame(LPS_FROM_RAS), outside)
    return Volume(array, grid), grid


def resliced(
    image: Any, local_matrix: Matrix, transform: Any, grid: Grid, frame: Frame, outside: float
) -> NDArray:
    """Voxels under any transform, interpolated linearly at a grid's voxel centers, `(z, y, x)`.

    Args:
        image: vtkImageData without spacing and origin of its own.
        local_matrix: index (x, y, z) → RAS before `transform`.
        transform: RAS → RAS of the world; a vtkAbstractTransform with an inverse.
        grid: in `frame`.
    """
    to_source = vtk.vtkGeneralTransform()
    to_source.PostMultiply()
    to_source.Concatenate(vtk_matrix(frame.to_world @ grid.index_to_world))
    to_source.Concatenate(transform.GetInverse())
    to_source.Concatenate(vtk_matrix(inverse(local_matrix)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(to_source)
    reslice.SetInterpolationModeToLinear()
    reslice.SetBackgroundLevel(outside)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    x, y, z = grid.size
    reslice.SetOutputExtent(0, x - 1, 0, y - 1, 0, z - 1)
    reslice.Update()
    return array_of_image(reslice.GetOutput()).copy()
