"""Whether the inputs of a run have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fingerprint", "fingerprint", "what_changed"]


@dataclass(frozen=True)
class Fingerprint:
    """Content of the inputs at one time: by name, modified time and checksum of the voxels."""

    entries: Mapping[str, tuple[int, int]]


def fingerprint(ct: Any, segmentation: Any, plan_dose: Any = None) -> Fingerprint:
    """The inputs as they are now."""
    raise NotImplementedError


def what_changed(
    since: Fingerprint, ct: Any, segmentation: Any, plan_dose: Any = None
) -> list[str]:
    """Names of what changed: segments by name, "CT", "plan dose", "transform of …"; empty if nothing.

    Quick while modified times tell that nothing changed; otherwise voxels are compared, so that a
    change of a color or a rename back does not count.
    """
    raise NotImplementedError
