"""Installed models for the selector, and the card of the chosen one."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .flow.facts import OrganModelFacts
from .flow.state import ModelFacts
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.models.manifest import ModelManifest

__all__ = [
    "Card",
    "InstalledModels",
    "doses_text",
    "installed_models",
    "model_card",
    "model_facts",
    "organ_model_facts",
    "prescription_text",
]


@dataclass(frozen=True)
class InstalledModels:
    """Manifests by name, defaults first, and what hindered reading; empty when nothing did.

    Args:
        manifests: of models of doses.
        organs: of models that find organs.
        folders: by name.
    """

    manifests: Mapping[str, ModelManifest]
    problem: str = ""
    organs: Mapping[str, ModelManifest] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A model's card: a few lines of rich text, and all of it in the tooltip."""

    summary: str
    details: str


def installed_models() -> InstalledModels:
    """The models of doses to choose from; a damaged manifest is shown, not raised."""
    from DosePredictionLib.errors import DosePredictionError
    from DosePredictionLib.models.manifest import installed_manifests
    from DosePredictionLib.tasks.registry import task_entry

    try:
        models, skipped = installed_manifests()
    except DosePredictionError as error:
        return InstalledModels({}, str(error))
    every = [model.manifest for model in models]
    ordered = sorted(every, key=lambda manifest: (not manifest.default, manifest.title))
    problem = " ".join(finding.message for finding in skipped)
    doses, organs = (
        {each.name: each for each in ordered if task_entry(each.task).gives == gives}
        for gives in ("dose", "segment")
    )
    folders = {model.manifest.name: model.folder for model in models}
    return InstalledModels(doses, problem, organs, folders)


def model_card(manifest: ModelManifest) -> Card:
    """What the model was trained on, its figures, its prescription and its use."""
    training = manifest.training
    trained_on = str(training.get("data") or training.get("source") or _("not stated"))
    lines = {
        _("Trained on"): trained_on,
        _("Measured"): _figures(manifest.validation) or _("no figures"),
        _("Prescription"): prescription_text(manifest),
    }
    further = {
        _("Validated on"): str(manifest.validation.get("cases", "")),
        _("Extrapolated"): str(training.get("extrapolated", "")),
        _("Citation"): str(training.get("citation", "")),
        _("Licence"): manifest.licence,
        _("Intended use"): manifest.intended_use,
        _("Weights"): f"SHA-256 {manifest.weights_sha256[:12]}…",
    }
    return Card(_rich(lines), _rich({**lines, **further}))


def model_facts(manifest: ModelManifest, folder: Path | None = None) -> ModelFacts:
    """What the panel decides by, and what it shows of a model.

    Args:
        folder: of the model, in which its heads lie; that they fit it is seen when they are used.
    """
    card, levels = model_card(manifest), manifest.expectations.prescription_gy
    return ModelFacts(
        name=manifest.name,
        title=manifest.title,
        protocol=manifest.protocol,
        is_default=manifest.default,
        highest_gy=max(levels.values(), default=0.0),
        has_levels=len(levels) > 1,
        doses=doses_text(manifest),
        card=card.summary,
        card_details=card.details,
        beams=_beams(manifest),
        wishes=_wishes(manifest),
        draws_samples=folder is not None and _draws_samples(folder),
    )


def organ_model_facts(manifest: ModelManifest) -> OrganModelFacts:
    """What the panel decides by of a model that finds organs."""
    return OrganModelFacts(manifest.name, manifest.title, manifest.protocol, manifest.default)


def _beams(manifest: ModelManifest) -> str:
    """Its own arrangement as JSON; empty when it knows nothing of beams."""
    from DosePredictionLib.encoding.beams import beam_inputs
    from DosePredictionLib.schema import to_json

    inputs = beam_inputs(manifest.encoding)
    return "" if inputs is None else json.dumps(to_json(inputs.arrangement))


def _wishes(manifest: ModelManifest) -> tuple[tuple[str, float], ...]:
    """Organs, and the dose of the V_d that may be limited; none: it takes no wishes."""
    from DosePredictionLib.encoding.wishes import wish_inputs

    inputs = wish_inputs(manifest.encoding)
    return () if inputs is None else tuple(inputs.dose_gy.items())


def _draws_samples(folder: Path) -> bool:
    """Whether there is a flow, and the scale that it needs."""
    from DosePredictionLib.models.manifest import MANIFEST_FILE

    return all((folder / head / MANIFEST_FILE).is_file() for head in ("scale", "flow"))


def doses_text(manifest: ModelManifest) -> str:
    """The doses that the model knows."""
    doses = " / ".join(f"{gy:g}" for gy in manifest.expectations.prescription_gy.values())
    return _("{doses} Gy").format(doses=doses) if doses else _("not stated")


def prescription_text(manifest: ModelManifest) -> str:
    """The doses that the model knows, and in how many fractions."""
    doses, expected = doses_text(manifest), manifest.expectations
    if not expected.prescription_gy or expected.fractions is None:
        return doses
    return _("{doses} in {fractions} fractions").format(doses=doses, fractions=expected.fractions)


def _figures(validation: Mapping[str, Any]) -> str:
    labels = {
        "dose_score_gy": _("dose score {mean:.2f} Gy"),
        "dvh_score_gy": _("DVH score {mean:.2f} Gy"),
        "mae_body_gy": _("mean error in the body {mean:.2f} Gy"),
    }
    texts = [
        text.format(mean=float(validation[key]["mean"]))
        for key, text in labels.items()
        if isinstance(validation.get(key), Mapping) and "mean" in validation[key]
    ]
    return ", ".join(texts)


def _rich(lines: Mapping[str, str]) -> str:
    return "<br>".join(
        f"<b>{html.escape(label)}:</b> {html.escape(text)}" for label, text in lines.items() if text
    )
