"""A case of another body site than the model's."""

from __future__ import annotations

from ..findings import Finding
from ..structures.mapping import propose_mapping
from ..structures.protocol import StructureProtocol
from .view import CaseView

__all__ = ["OTHER_SITE", "check_body_site"]

OTHER_SITE = "model-of-another-site"


def check_body_site(view: CaseView) -> list[Finding]:
    """Organs of another protocol where the model's own are missing."""
    organs = view.protocol.organs
    if not organs or any(channel.name in view.regions for channel in organs):
        return []  # targets alone belong to no body site
    names = [name for name, mask in view.case.structures.items() if not mask.is_empty]
    for other in map(StructureProtocol.load, StructureProtocol.available()):
        mapping = propose_mapping(names, other, required=())
        found = [c.label for c in other.organs if c.name in mapping.assigned]
        if other.id != view.protocol.id and len(found) > 1:
            message = (
                f"The case holds {', '.join(found)} and no organ of {view.protocol.title}: the "
                "model was made for another body site."
            )
            remedy = (
                f"Choose a model of the protocol {other.id}, or map the organs by hand; "
                "--force-model predicts all the same."
            )
            return [Finding(OTHER_SITE, "blocking", message, remedy)]
    return []
