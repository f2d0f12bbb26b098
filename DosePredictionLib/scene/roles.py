"""What the roles of a result's nodes say of them."""

from __future__ import annotations

from typing import Any

from ..prediction import ROLES

__all__ = ["is_carried", "is_further_output"]


def is_carried(role: str) -> bool:
    """Whether a node was added when the result was shown: it is filled anew when it is again."""
    kinds = ("isodoses", "cursor", "change", "series-other:")
    return role.startswith(kinds) or role.endswith("-legend")


def is_further_output(role: str, node: Any) -> bool:
    """Whether a node of a result is a volume that was predicted beside the dose."""
    kind, _, key = role.partition(":")
    kinds = {each.replace(" ", "-") for each in ROLES}
    return bool(key) and kind in kinds and bool(node.IsA("vtkMRMLScalarVolumeNode"))
