"""Which segmentation and which plan go with a CT, as far as that is unambiguous."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .facts import NodeFacts

__all__ = ["first_case", "partner"]

# Words by which the nodes of one case differ: "pt_235 CT", "pt_235 structures".
_GENERIC = re.compile(
    r"\b(ct|image|images|volume|structures?|segmentation|rtstruct|contours?|rtdose|rtplan|plan|"
    r"dose|of)\b|\d+:|[^a-z0-9]+",
    re.IGNORECASE,
)
_OVERLAP = 0.5  # of the smaller box: two nodes of one patient in one frame of reference


def partner(ct: NodeFacts, choice: str, nodes: Sequence[NodeFacts]) -> str:
    """The node that goes with a CT as `segmentation` or `plan_dose`; "" where none stands out.

    What was drawn on the CT goes before what lies in its study, that before what bears its name,
    and that before what lies where it lies. Two that are equally near are nobody's, and what is
    nearer to another CT is that one's.
    """
    rivals = [node for node in nodes if node.fits("ct") and node.id != ct.id and not node.is_dose]
    nearness = {}
    for node in nodes:
        if not node.fits(choice) or node.id == ct.id or not _is_meant(choice, node):
            continue
        near = _nearness(ct, node)
        others = max((_nearness(r, node) for r in rivals if r.id != node.id), default=0)
        if others < near or (others == near and near > 1):
            nearness[node.id] = near
    best = max(nearness.values(), default=0)
    found = [id for id, near in nearness.items() if near == best]
    return found[0] if best > 0 and len(found) == 1 else ""


def first_case(nodes: Sequence[NodeFacts]) -> str:
    """The CT to begin with: the one that is shown, else the first that can be nothing else."""
    fitting = [node for node in nodes if node.fits("ct")]
    shown = [node for node in fitting if node.is_background]
    sure = [node for node in fitting if not node.can_be_dose]
    return next((node.id for node in (*shown, *sure, *fitting)), "")


def _is_meant(choice: str, node: NodeFacts) -> bool:
    """A volume of numbers above 0 may be anything: as a plan it has to say what it is."""
    return choice != "plan_dose" or node.is_dose or "dose" in node.name.lower()


def _nearness(ct: NodeFacts, node: NodeFacts) -> int:
    """Higher is nearer; 0: of another patient, or nothing is known."""
    if node.reference == ct.id:
        return 8
    is_elsewhere = node.reference or (ct.study and node.study and ct.study != node.study)
    overlap = _shared_share(ct.bounds, node.bounds)
    if is_elsewhere or (overlap is not None and overlap <= 0):
        return 0
    nearness = 4 if ct.study and ct.study == node.study else 0
    stem = _stem(ct.name)
    nearness += 2 if stem and stem == _stem(node.name) else 0
    return nearness + (1 if overlap is not None and overlap >= _OVERLAP else 0)


def _stem(name: str) -> str:
    return _GENERIC.sub("", name).lower()


def _shared_share(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Volume that two boxes share, of the smaller; None when one is unknown."""
    if len(one) != 6 or len(other) != 6:
        return None
    shared, volumes = 1.0, [1.0, 1.0]
    for low in (0, 2, 4):
        edges = [(box[low], box[low + 1]) for box in (one, other)]
        shared *= max(0.0, min(edges[0][1], edges[1][1]) - max(edges[0][0], edges[1][0]))
        volumes = [v * max(b - a, 0.0) for v, (a, b) in zip(volumes, edges, strict=True)]
    smaller = min(volumes)
    return shared / smaller if smaller > 0 else None
