"""Whether the inputs of a run have changed since."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .geometry import array_of_image, index_to_ras, linear_to_world
from .segments import segment_content, segment_modified

__all__ = ["Content", "Fingerprint", "contents", "fingerprint", "what_changed"]

Content = tuple[int, int]


@dataclass(frozen=True)
class Fingerprint:
    """The inputs at one time.

    Args:
        entries: what → modified time and checksum. Keys: "CT", "plan dose", "place of …", and
            `segment:<ID>`.
    """

    entries: Mapping[str, Content]


def contents(
    ct: Any, segmentation: Any, plan_dose: Any = None, since: Fingerprint | None = None
) -> Iterator[tuple[str, Content]]:
    """The entries of a fingerprint, one at a time.

    Args:
        since: an earlier one of the same nodes; what has not been modified since is not looked at.
    """
    for what, modified, look in _inputs(ct, segmentation, plan_dose):
        before = None if since is None else since.entries.get(what)
        yield what, before if before is not None and before[0] == modified() else look()


def fingerprint(ct: Any, segmentation: Any, plan_dose: Any = None) -> Fingerprint:
    """The inputs as they are now."""
    return Fingerprint(dict(contents(ct, segmentation, plan_dose)))


def what_changed(
    since: Fingerprint, ct: Any, segmentation: Any, plan_dose: Any = None
) -> list[str]:
    """What changed, for a person to read: segments by name, "CT", "plan dose", "place of …".

    Quick while modified times state that nothing changed; otherwise contents are compared, so that
    a color, a name, or an edit that was undone does not count. Segments that were added count only
    by being there: whether they matter is for the mapping to say.
    """
    changed, seen = [], set()
    for what, modified, look in _inputs(ct, segmentation, plan_dose):
        seen.add(what)
        before = since.entries.get(what)
        if before is None or (before[0] != modified() and before[1] != look()[1]):
            changed.append(_label(what, segmentation))
    gone = [what for what in since.entries if what not in seen]
    return changed + [f"{what.removeprefix('segment:')} (removed)" for what in gone]


def _inputs(
    ct: Any, segmentation: Any, plan_dose: Any
) -> list[tuple[str, Callable[[], int], Callable[[], Content]]]:
    """What, its modified time, and its content."""
    nodes = {"CT": ct, "plan dose": plan_dose}
    inputs: list[tuple[str, Callable[[], int], Callable[[], Content]]] = []
    for what, node in nodes.items():
        if node is not None and node.GetImageData() is not None:
            inputs.append((what, node.GetImageData().GetMTime, _voxels(node)))
    for what, node in {**nodes, "segmentation": segmentation}.items():
        if node is not None:
            inputs.append((f"place of {what}", lambda: -1, _place(node)))
    content = segmentation.GetSegmentation()
    for segment_id in content.GetSegmentIDs():
        segment = content.GetSegment(segment_id)
        modified = partial(segment_modified, segment)
        inputs.append((f"segment:{segment_id}", modified, partial(segment_content, segment)))
    return inputs


def _voxels(volume: Any) -> Callable[[], Content]:
    def look() -> Content:
        image = volume.GetImageData()
        return image.GetMTime(), zlib.crc32(np.ascontiguousarray(array_of_image(image)).data)

    return look


def _place(node: Any) -> Callable[[], Content]:
    """Geometry and transform; a warping transform counts by its modified time."""

    def look() -> Content:
        transform = linear_to_world(node)
        parts = [] if not hasattr(node, "GetIJKToRASMatrix") else [index_to_ras(node)]
        if transform is not None:
            parts.append(transform)
        checksum = zlib.crc32(np.round(np.array(parts), 6).tobytes())
        parent = node.GetParentTransformNode() if transform is None else None
        return 0, checksum if parent is None else zlib.crc32(b"%d" % parent.GetMTime(), checksum)

    return look


def _label(what: str, segmentation: Any) -> str:
    if not what.startswith("segment:"):
        return what
    segment = segmentation.GetSegmentation().GetSegment(what.removeprefix("segment:"))
    return str(segment.GetName())
