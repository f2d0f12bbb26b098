"""Results that came with a scene: enough of them is in it to show, judge and report them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..case import Case
from ..errors import CaseError, DosePredictionError, ModelError
from ..models.manifest import installed_manifests
from ..prediction import ROLES, Output, Prediction
from ..structures.bound import bind
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .changes import Fingerprint, what_changed
from .geometry import array_of_image, image_size
from .records import ROLE_OF_RECORD, read_record
from .results import SceneResult
from .roles import is_further_output
from .runs import inputs_of, plan_of, result_nodes, result_runs

__all__ = ["prediction_of_result", "require_same_inputs", "restored_results"]


def restored_results() -> list[SceneResult]:
    """Results that came with the scene, the oldest first; those without a record are left out.

    One whose record is damaged or of another version counts as one without.
    """
    found = []
    for run in result_runs():
        nodes = result_nodes(run)
        if "dose" not in nodes or ROLE_OF_RECORD not in nodes:
            continue
        try:
            found.append(_restored(run, nodes))
        except (DosePredictionError, ValueError):
            continue
    return found


def _restored(run: str, nodes: Mapping[str, Any]) -> SceneResult:
    record = read_record(nodes[ROLE_OF_RECORD])
    return SceneResult(
        run=run,
        nodes=nodes,
        name=record.name,
        protocol=StructureProtocol.load(record.protocol),
        mapping=record.mapping,
        segments=record.segments,
        measures=record.whole_measures(),
        plan=plan_of(nodes["dose"]),
        label=record.label,
        # Modified times are of another session: contents are compared.
        fingerprint=Fingerprint({what: (-1, crc) for what, crc in record.checksums.items()}),
        record=record,
    )


def require_same_inputs(result: SceneResult) -> None:
    """Refuse to write about inputs that are not those of the prediction any more.

    Raises:
        CaseError: CT or segmentation have gone, or something has changed since.
    """
    ct, segmentation = inputs_of(result.dose)
    if ct is None or segmentation is None:
        raise CaseError(
            "The CT or the segmentation of this dose is no longer in the scene. Load it, and "
            "predict again."
        )
    changed = what_changed(result.fingerprint, ct, segmentation, plan_of(result.dose))
    if changed:
        raise CaseError(
            f"Changed since this prediction: {', '.join(changed)}. A report would show what was "
            "not predicted: predict again first."
        )


def prediction_of_result(result: SceneResult, case: Case) -> Prediction:
    """The prediction whose volumes lie in the scene.

    Args:
        case: read from its inputs, on the dose's grid.

    Raises:
        CaseError: the dose lies on another grid.
        ModelError: its model is not installed any more.
    """
    record, image = result.record, result.dose.GetImageData()
    if image_size(image) != case.grid.size:
        raise CaseError(f"{result.dose.GetName()} does not lie on the CT's voxels. Predict again.")
    found = {each.manifest.name: each for each in installed_manifests().models}
    if record.model not in found:
        raise ModelError(f"The model {record.model} is not installed any more. Install it again.")
    model = found[record.model]
    bound = bind(case, model.protocol, _as_given(result), record.prescription)
    return Prediction(
        case=case,
        model=model,
        outputs=tuple(_outputs(result, case)),
        mapping=record.mapping,
        prescription=record.prescription,
        external=bound.external,
        findings=record.findings,
        fallbacks=record.fallbacks,
        device=record.device,
        precision=record.precision,
        seconds=record.seconds,
    )


def _as_given(result: SceneResult) -> dict[str, str | None]:
    return {match.channel: match.structure for match in result.mapping.matches}


def _outputs(result: SceneResult, case: Case) -> list[Output]:
    """The dose, and the further outputs that are volumes, by their nodes' roles."""
    dose = Volume(array_of_image(result.dose.GetImageData()), case.grid)
    outputs = [Output("dose", dose, "dose", "Gy")]
    roles = {role.replace(" ", "-"): role for role in ROLES}
    for name, node in result_nodes(result.run).items():
        role, _, key = name.partition(":")
        if is_further_output(name, node):
            volume = Volume(array_of_image(node.GetImageData()), case.grid)
            known = roles[role]
            outputs.append(Output(key, volume, known, ROLES[known].units[0]))
    return outputs
