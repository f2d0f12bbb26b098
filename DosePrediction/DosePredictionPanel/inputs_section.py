"""The models to choose from, and the card of the chosen one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .connectors import fill_combo
from .i18n import _
from .model_card import InstalledModels, doses_text, installed_models, model_card

if TYPE_CHECKING:
    from DosePredictionLib.models.manifest import ModelManifest

__all__ = ["InputsSection"]


class InputsSection:
    """Model selector, card and prescription; the node selectors need no code."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.models = InstalledModels({})
        ui.modelCardButton.connect("toggled(bool)", ui.modelCardLabel.setVisible)

    @property
    def manifests(self) -> Mapping[str, ModelManifest]:
        """The installed models by name."""
        return self.models.manifests

    def refresh_models(self, chosen: str) -> None:
        """Look again at what is installed."""
        self.models = installed_models()
        items = {name: manifest.title for name, manifest in self.manifests.items()}
        fill_combo(self.ui.modelSelector, items, chosen)
        self.show_model(chosen)

    def show_model(self, name: str) -> None:
        """The card of the chosen model; of one that is gone, what became of it."""
        ui, manifest = self.ui, self.manifests.get(name)
        ui.prescriptionSpinBox.enabled = manifest is not None and not _has_levels(manifest)
        if manifest is None:
            ui.modelCardLabel.text = self.models.problem or _(
                "The model {name} is not installed. Choose another one, or install it again."
            ).format(name=name or "–")
            return
        card = model_card(manifest)
        ui.modelCardLabel.text = card.summary
        ui.modelCardLabel.toolTip = card.details
        ui.modelSelector.toolTip = card.details
        # Without the fractions, which the card tells: a narrow panel cuts the beginning off.
        own = _("{doses} (the model's)").format(doses=doses_text(manifest))
        ui.prescriptionSpinBox.specialValueText = own
        ui.prescriptionSpinBox.toolTip = (
            _("This model predicts its own dose levels; they are not scaled.")
            if _has_levels(manifest)
            else _("The dose is scaled to this prescription. The lowest value: the model's own.")
        )


def _has_levels(manifest: ModelManifest) -> bool:
    return len(manifest.expectations.prescription_gy) > 1
