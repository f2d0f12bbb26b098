"""Heads in a model's folder: small networks that say how far plans lie from its dose.

    MODEL/scale   the expected |error|, voxel by voxel      (task residual_scale)
    MODEL/flow    samples of doses about the model's own    (task residual_flow)

Each is a model folder of its own, bound to the weights by whose residuals it learned: a scale to
the model's, a flow to the model's and the scale's.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ModelError
from ..findings import Finding
from .dose_model import DoseModel
from .manifest import MANIFEST_FILE, ModelFolder

__all__ = ["HEADS", "ridden_on", "usable_heads", "verified_heads"]

HEADS: Mapping[str, str] = {"scale": "residual_scale", "flow": "residual_flow"}
"""Folder → task, in the order in which they run: a flow needs the scale."""


def verified_heads(model: ModelFolder) -> dict[str, DoseModel]:
    """The heads in a model's folder, by the names of theirs.

    Raises:
        ModelError: one cannot be read, is of another task or encoding, or learned from other
            weights.
    """
    found: dict[str, DoseModel] = {}
    for name in HEADS:
        folder = model.folder / name
        if (folder / MANIFEST_FILE).is_file():
            head = DoseModel.load(folder)
            _require_fitting(head, name, model, found)
            found[name] = head
    return found


def usable_heads(model: ModelFolder) -> tuple[dict[str, DoseModel], list[Finding]]:
    """The heads in a model's folder, or none of them and why they cannot be used.

    A prediction stands without them.
    """
    try:
        return verified_heads(model), []
    except ModelError as exception:
        message = f"Nothing says how large the dose's errors are: {exception}"
        return {}, [Finding("head-unusable", "warning", message, "Remove or renew the head.")]


def ridden_on(model: ModelFolder, scale: ModelFolder | None) -> tuple[str, ...]:
    """Checksums that a head of a model is bound to.

    Args:
        scale: whose expected errors the head sees, too.
    """
    return (*model.manifest.checksums, *(() if scale is None else scale.manifest.checksums))


def _require_fitting(
    head: DoseModel, name: str, model: ModelFolder, found: Mapping[str, DoseModel]
) -> None:
    ours, theirs = head.manifest, model.manifest
    if ours.task != HEADS[name]:
        raise ModelError(
            f"{head.folder} is of the task {ours.task}, not {HEADS[name]}: its folder says "
            "otherwise."
        )
    if (ours.protocol, ours.encoding) != (theirs.protocol, theirs.encoding):
        raise ModelError(
            f"{head.folder} has another protocol or encoding than the model {theirs.name}: train "
            "it with --frozen."
        )
    if name == "flow" and "scale" not in found:
        raise ModelError(f"{head.folder} needs a head of the expected error: {model.folder}/scale.")
    wanted = ridden_on(model, found.get("scale") if name == "flow" else None)
    if ours.rides_on != wanted:
        theirs_sha = ours.rides_on[0][:12] if ours.rides_on else "none"
        raise ModelError(
            f"{head.folder} learned from residuals of the weights {theirs_sha}…, the model "
            f"{theirs.name} has {wanted[0][:12]}… or other networks or another scale: train it "
            "anew (docs/diffusion.md)."
        )
