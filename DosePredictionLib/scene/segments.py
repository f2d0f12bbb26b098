"""Segments → occupancy on a case's grid, through world coordinates, in short steps.

A binary labelmap on the CT's voxels is copied; of one on other voxels the share in each of the CT's
voxels is computed. A segment that is only a surface is filled on finer voxels, and averaged.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import CaseError, GeometryError
from ..geometry import bounding_box
from ..mask import Mask
from ..volume import Grid, Volume
from .geometry import (
    Frame,
    array_of_image,
    general_to_world,
    grid_in,
    image_size,
    inverse,
    linear_to_world,
    matrix_of,
    resliced,
    vtk_matrix,
)
from .resampling import resampled_in_slabs

__all__ = [
    "Labelmap",
    "SegmentReader",
    "labelmap_of",
    "segment_content",
    "segment_modified",
    "surface_of",
]

_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
_SURFACE = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()

_SAME_VOXEL = 1e-2  # of a voxel, as in Grid.matches
_FINE_MM = 0.5  # surfaces are filled on voxels about this small …
_FINEST = 6  # … but no more than this many along an axis of one of the CT's
_SLAB_VOXELS = 16_000_000  # fine voxels filled in one step


@dataclass(frozen=True)
class Labelmap:
    """The block of a segment's labelmap that holds anything.

    Args:
        mask: boolean `(z, y, x)`.
        to_ras: 4×4, index (x, y, z) of the block → RAS of the segmentation.
    """

    mask: NDArray[np.bool_]
    to_ras: NDArray[np.float64]


class SegmentReader:
    """Reads the segments of one segmentation onto one grid.

    Args:
        segmentation: vtkMRMLSegmentationNode.
        frame: of the case.
        grid: the CT's, in the frame.
    """

    def __init__(self, segmentation: Any, frame: Frame, grid: Grid) -> None:
        self._node = segmentation
        self._frame = frame
        self._grid = grid

    def read(self, segment_id: str) -> Iterator[Mask | None]:
        """The segment's occupancy: None after each step, and at last the mask.

        It is boolean where the segment lies on the grid's own voxels (or is empty), else an
        occupancy in 0…1, float32.

        Raises:
            CaseError: the segment has gone, or has only a representation that cannot be converted.
        """
        segment = _segment(self._node, segment_id)
        labelmap = labelmap_of(segment)
        if labelmap is not None:
            yield None
            yield from self._from_labelmap(labelmap)
        elif _is_empty(segment):
            yield self._nothing()
        else:
            surface = surface_of(self._node, segment_id)
            yield None
            yield from self._from_surface(surface)

    def _nothing(self) -> Mask:
        return Mask.of_block(np.zeros((0, 0, 0), dtype=bool), (slice(0, 0),) * 3, self._grid)

    def _from_labelmap(self, labelmap: Labelmap) -> Iterator[Mask | None]:
        mask = labelmap.mask
        if mask.size == 0:
            yield self._nothing()
            return
        z, y, x = mask.shape
        try:
            grid = grid_in(self._frame, self._node, labelmap.to_ras, (x, y, z))
        except GeometryError:  # sheared or warped on its way to the world
            yield self._warped(labelmap)
            return
        start = _offset_on(self._grid, grid)
        if start is not None:
            yield _placed(mask, start, self._grid)
            return
        for volume in resampled_in_slabs(Volume(mask, grid), self._grid, "occupancy"):
            yield None if volume is None else Mask(np.clip(volume.array, 0, 1), self._grid)

    def _warped(self, labelmap: Labelmap) -> Mask:
        image = vtk.vtkImageData()
        z, y, x = labelmap.mask.shape
        image.SetDimensions(x, y, z)
        values = labelmap.mask.astype(np.float32).ravel()
        image.GetPointData().SetScalars(numpy_to_vtk(values, deep=True))
        to_world = general_to_world(self._node)
        array = resliced(image, labelmap.to_ras, to_world, self._grid, self._frame, 0.0)
        return Mask(np.clip(array, 0, 1), self._grid)

    def _from_surface(self, surface: Any) -> Iterator[Mask | None]:
        """Filled on finer voxels, a slab of them a step, and averaged."""
        spacing = self._grid.spacing
        fine = [int(np.clip(np.ceil(mm / _FINE_MM), 2, _FINEST)) for mm in spacing]
        result = np.zeros(self._grid.shape, dtype=np.float32)
        indexed = self._in_index_space(surface)
        low, high = np.reshape(indexed.GetBounds(), (3, 2)).T
        first = np.clip(np.floor(low + 0.5).astype(int), 0, np.array(self._grid.size) - 1)
        last = np.clip(np.floor(high + 0.5).astype(int), 0, np.array(self._grid.size) - 1)
        area = np.prod((last - first + 1)[:2] * fine[:2])
        depth = max(1, int(_SLAB_VOXELS // (area * fine[2])))
        for start in range(first[2], last[2] + 1, depth):
            begin = np.array([first[0], first[1], start])
            end = np.array([last[0], last[1], min(start + depth - 1, last[2])])
            block = tuple(slice(b, e + 1) for b, e in zip(begin[::-1], end[::-1], strict=True))
            result[block] = _filled_share(indexed, begin, end - begin + 1, fine)
            yield None
        yield Mask(result, self._grid)

    def _in_index_space(self, surface: Any) -> Any:
        """The surface in continuous indices (x, y, z) of the grid."""
        to_index = inverse(self._grid.index_to_world) @ self._frame.from_world
        linear = linear_to_world(self._node)
        transform = vtk.vtkGeneralTransform()
        transform.PostMultiply()
        if linear is None:
            transform.Concatenate(general_to_world(self._node))
        else:
            to_index = to_index @ linear
        transform.Concatenate(vtk_matrix(to_index))
        return _transformed(surface, transform)


def labelmap_of(segment: Any) -> Labelmap | None:
    """A segment's binary labelmap, cropped; None without that representation."""
    image = segment.GetRepresentation(_LABELMAP)
    if image is None:
        return None
    nothing = Labelmap(np.zeros((0, 0, 0), dtype=bool), np.eye(4))
    if image.GetPointData().GetScalars() is None or min(image_size(image)) < 1:
        return nothing
    mask = array_of_image(image) == segment.GetLabelValue()
    box = bounding_box(mask)
    if box is None:
        return nothing
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_ras = matrix_of(matrix)
    # The matrix counts from index 0, where the extent need not begin.
    start = np.array([each.start for each in box[::-1]]) + image.GetExtent()[::2]
    to_ras[:3, 3] += to_ras[:3, :3] @ start
    return Labelmap(np.ascontiguousarray(mask[box]), to_ras)


def surface_of(segmentation: Any, segment_id: str) -> Any:
    """A segment's closed surface; made on a temporary copy where it has none.

    Raises:
        CaseError: the segment's representation cannot be converted to one.
    """
    segment = _segment(segmentation, segment_id)
    surface = segment.GetRepresentation(_SURFACE)
    if surface is not None:
        return surface
    source = segmentation.GetSegmentation()
    stored = source.GetSourceRepresentationName()
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(stored)
    copied = copy.CopySegmentFromSegmentation(source, segment_id, False)
    if not copied or not copy.CreateRepresentation(_SURFACE):
        raise CaseError(
            f"Segment {segment.GetName()} of {segmentation.GetName()} is stored as {stored}, which "
            "cannot be converted here. Create its binary labelmap in the Segmentations module "
            "(the contours of an RT structure set need SlicerRT)."
        )
    return copy.GetSegment(segment_id).GetRepresentation(_SURFACE)


def segment_content(segment: Any) -> tuple[int, int]:
    """Modified time and checksum of what a segment covers; name and color do not count."""
    labelmap = labelmap_of(segment)
    if labelmap is not None:
        image = segment.GetRepresentation(_LABELMAP)
        checksum = zlib.crc32(np.packbits(labelmap.mask).data)
        place = np.round(labelmap.to_ras, 4).tobytes()
        return image.GetMTime(), zlib.crc32(place, checksum)
    surface = segment.GetRepresentation(_SURFACE)
    if surface is None or surface.GetPoints() is None:
        return segment.GetMTime(), 0
    points = vtk_to_numpy(surface.GetPoints().GetData())
    return surface.GetMTime(), zlib.crc32(np.ascontiguousarray(points).data)


def segment_modified(segment: Any) -> int:
    """The modified time that `segment_content` gives, without looking at the content."""
    for name in (_LABELMAP, _SURFACE):
        representation = segment.GetRepresentation(name)
        if representation is not None:
            return int(representation.GetMTime())
    return int(segment.GetMTime())


def _segment(segmentation: Any, segment_id: str) -> Any:
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise CaseError(
            f"Segment {segment_id} has left {segmentation.GetName()} while it was read. Read again."
        )
    return segment


def _is_empty(segment: Any) -> bool:
    """Whether a segment has no content in any representation."""
    names: list[str] = []
    segment.GetContainedRepresentationNames(names)
    surface = segment.GetRepresentation(_SURFACE)
    only_surface = names == [_SURFACE] and surface.GetNumberOfPoints() == 0
    return not names or only_surface


def _offset_on(grid: Grid, other: Grid) -> tuple[int, int, int] | None:
    """Index (x, y, z) in `grid` at which `other` begins; None unless its voxels are the grid's."""
    to_index = inverse(grid.index_to_world) @ other.index_to_world
    corners = np.array(list(product(*((0, n - 1) for n in other.size))), dtype=float)
    start = np.round(to_index[:3, 3])
    reached = corners @ to_index[:3, :3].T + to_index[:3, 3]
    if np.abs(reached - (corners + start)).max() > _SAME_VOXEL:
        return None
    return (int(start[0]), int(start[1]), int(start[2]))


def _placed(mask: NDArray[np.bool_], start: tuple[int, int, int], grid: Grid) -> Mask:
    """A block in its place on the grid; what lies outside is cut off."""
    into, out_of = [], []
    for axis, begin in enumerate(start[::-1]):
        low, high = max(begin, 0), min(begin + mask.shape[axis], grid.shape[axis])
        into.append(slice(low, max(low, high)))
        out_of.append(slice(low - begin, max(low, high) - begin))
    z, y, x = into
    return Mask.of_block(mask[tuple(out_of)], (z, y, x), grid)


def _transformed(surface: Any, transform: Any) -> Any:
    """A triangulated copy of a surface in other coordinates."""
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputConnection(triangles.GetOutputPort())
    moved.SetTransform(transform)
    moved.Update()
    return moved.GetOutput()


def _filled_share(
    surface: Any, start: NDArray[np.int64], size: NDArray[np.int64], fine: list[int]
) -> NDArray[np.float32]:
    """Share of each voxel of a block that a surface (in indices) encloses, `(z, y, x)`."""
    spacing = 1.0 / np.array(fine)
    count = size * fine
    stencil = vtk.vtkPolyDataToImageStencil()
    stencil.SetInputData(surface)
    stencil.SetOutputSpacing(*spacing)
    stencil.SetOutputOrigin(*(start - 0.5 + 0.5 * spacing))
    stencil.SetOutputWholeExtent(0, count[0] - 1, 0, count[1] - 1, 0, count[2] - 1)
    image = vtk.vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetInsideValue(1)
    image.SetOutsideValue(0)
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    filled = array_of_image(image.GetOutput())
    (x, y, z), (i, j, k) = size, fine
    total = filled.reshape(z, k, y, j, x, i).sum(axis=(1, 3, 5), dtype=np.uint16)
    return total.astype(np.float32) / np.float32(np.prod(fine))
