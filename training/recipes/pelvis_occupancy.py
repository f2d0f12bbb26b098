"""`pelvis_simulated` on the shares of voxels that lie inside, to guide contours in the making.

A model that sees such shares has a gradient between 0 and 1 that means something. They say where in
its voxel an edge lies, so that distances are those of the model's own voxels: the guidance makes
them anew for every crop.
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.encoding.derived import DerivedInputs

from .pelvis_simulated import recipe as pelvis_simulated

__all__ = ["recipe"]

recipe = replace(
    pelvis_simulated,
    encoding=replace(
        pelvis_simulated.encoding,
        masks="occupancy",
        derived=DerivedInputs(distances="targets", distance_clip_mm=80.0),
    ),
)
