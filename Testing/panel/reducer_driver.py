"""Drives the reducer by events, and answers what the scene knows; the rest the tests answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.reducer import reduce
from DosePredictionPanel.flow.state import (
    Choices,
    Matching,
    ModelFacts,
    NodeFacts,
    PanelState,
    Prepared,
    ResultState,
    TemplateFacts,
    Verdict,
    VerdictLine,
)
from DosePredictionPanel.result_tables import Cell, Table
from DosePredictionPanel.views import run_view

from DosePredictionLib.structures.mapping import propose_mapping
from DosePredictionLib.structures.protocol import StructureProtocol

E = TypeVar("E", bound=do.Effect)

PELVIS = ModelFacts("pelvis", "Pelvis", "pelvis", True, 45.0, False)
HEAD = ModelFacts("head", "Head and neck", "openkbp", True, 70.0, True)
TEMPLATES = (
    TemplateFacts("head_neck", "Head and neck", "openkbp", 66, 72),
    TemplateFacts("pelvis_nodes", "Pelvis", "pelvis", 43, 54),
    TemplateFacts("prostate", "Prostate", "pelvis", 70, 82),
)
SEGMENTS = {
    "segA": ("PTV", "Bladder", "Rectum", "Body"),
    "segA2": ("PTV", "Bladder", "Body"),
    "segB": ("PTV70", "PTV63", "PTV56", "Brainstem", "SpinalCord", "Mandible"),
}
PROTOCOLS = {"segA": "pelvis", "segA2": "pelvis", "segB": "openkbp"}
A = ("ctA", "segA", "planA")
B = ("ctB", "segB", "planB")
ROWS = Table(("Structure",), ((Cell("PTV"),),))


def scene_nodes() -> tuple[NodeFacts, ...]:
    """Two patients, an array of numbers that may be a CT or a dose, and a difference of doses."""
    nodes = []
    for patient in "AB":
        nodes += [
            NodeFacts(f"ct{patient}", f"CT of {patient}", "volume", can_be_dose=False),
            NodeFacts(
                f"seg{patient}",
                f"structures of {patient}",
                "segmentation",
                reference=f"ct{patient}",
            ),
            NodeFacts(f"plan{patient}", f"plan of {patient}", "volume", is_dose=True),
        ]
    return (*nodes, NodeFacts("segA2", "further of A", "segmentation"))


class Driver:
    """The state after every event, and the effects that nobody has answered yet."""

    def __init__(self, nodes: tuple[NodeFacts, ...] | None = None, **choices: Any) -> None:
        self.state = PanelState()
        self.nodes = scene_nodes() if nodes is None else nodes
        self.parameters = Choices(**choices)
        self.pending: list[do.Effect] = []
        self.remembered: list[do.RememberCorrections] = []
        self.recalled: tuple[tuple[str, str], ...] = ()
        self.saved: tuple[ResultState, ...] = ()
        self.contents: dict[str, int] = {}
        self.now_s = 0.0
        self.runs = 0
        self.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
        self.send(on.Started())
        self.send(on.Entered())

    def send(self, event: on.Event) -> list[do.Effect]:
        """Everything that an event and the scene's answers to it brought about, in order."""
        before, waiting, seen = self.state, [event], []
        while waiting:
            self.state, effects = reduce(self.state, waiting.pop(0))
            for effect in effects:
                seen.append(effect)
                waiting += self._answers(effect)
        assert hash(id(before)) and isinstance(before, PanelState)  # the old one is untouched
        self.pending += seen
        return seen

    def choose(self, **choices: Any) -> list[do.Effect]:
        """A widget or a script changes parameters."""
        self.parameters = replace(self.parameters, **choices)
        return self.send(on.ChoicesChanged(self.parameters))

    def patient(self, nodes: tuple[str, str, str]) -> None:
        """Choose CT, structures and plan one after the other, as a person does."""
        for name, node in zip(("ct", "segmentation", "plan_dose"), nodes, strict=True):
            self.choose(**{name: node})

    def ready(self, *findings: Any) -> None:
        """The inputs come to rest, are read and checked."""
        self.send(on.TimerFired("rest"))
        assert self.state.reading is not None, self.state.input_error
        token = self.state.reading.token
        self.send(on.InputsRead(token, Prepared({"PTV": 100.0}, dict(self.contents))))
        self.send(on.Checked(token, findings))

    def apply(self) -> list[do.Effect]:
        """Press the button, a second after the last time."""
        self.now_s += 1.0
        return self.send(on.ApplyPressed(self.now_s))

    def finish(self, dose: str, change: bool = False) -> list[do.Effect]:
        """The worker and the scene are done."""
        run = self.state.run
        assert run is not None
        self.runs += 1
        tables = {"goals": ROWS, "dvh": ROWS}
        if change:
            tables["change"] = ROWS
        highest = run.order.prescription_gy or 45.0
        ranges = {"Gy": (0.1 * highest, 1.1 * highest), "%": (10.0, 110.0)}
        self._enter(dose, f"run{self.runs}", run.order.ct, run.order.segmentation)
        verdict = Verdict(1, 2, (VerdictLine("Rectum V40Gy 42 %", "not_met", 0),))
        finished = on.RunFinished(
            run.token, f"run{self.runs}", dose, f"dose {dose}", "fine", tables, ranges, verdict
        )
        effects = self.send(finished)
        self.send(on.NodesListed(self.nodes))
        return effects

    def stroke(self) -> list[do.Effect]:
        """A contour is edited, and has rested."""
        return [*self.send(on.SegmentsEdited()), *self.send(on.TimerFired("edit"))]

    def predict(self, dose: str, change: bool = False) -> list[do.Effect]:
        """From ready inputs to the shown result."""
        self.ready()
        assert self.one(self.apply(), do.StartPrediction)
        effects = self.finish(dose, change)
        self.shown()
        return effects

    def shown(self) -> None:
        """All steps of showing are done."""
        showing = self.state.showing
        if showing is not None:
            self.send(on.Displayed(showing.token, showing.display))

    def remove(self, *ids: str) -> list[do.Effect]:
        """Nodes leave the scene, as a person deletes them."""
        effects = []
        for id in ids:
            name = next((node.name for node in self.nodes if node.id == id), id)
            effects += self.send(on.NodeRemoving(id, name))
            self.nodes = tuple(node for node in self.nodes if node.id != id)
            effects += self.send(on.NodeRemoved(id))
        return effects

    def one(self, effects: list[do.Effect], kind: type[E]) -> E:
        """The only effect of a kind."""
        (found,) = [each for each in effects if isinstance(each, kind)]
        return found

    def kinds(self, effects: list[do.Effect]) -> list[str]:
        """Classes of effects."""
        return [type(each).__name__ for each in effects]

    @property
    def notices(self) -> list[str]:
        """What the person reads above the button, worst first."""
        return [notice.text for notice in run_view(self.state).notices]

    @property
    def button(self) -> tuple[str, bool]:
        """Text of Apply, and whether it can be pressed."""
        button = run_view(self.state).button
        return button.text, button.enabled

    def _enter(self, dose: str, run: str, ct: str, segmentation: str) -> None:
        kept = tuple(node for node in self.nodes if node.id != dose)
        made = NodeFacts(dose, f"dose {dose}", "volume", True, True, run, "dose", ct, segmentation)
        self.nodes = (*kept, made)

    def _answers(self, effect: do.Effect) -> list[on.Event]:
        if isinstance(effect, do.WriteChoices):
            self.parameters = replace(self.parameters, **dict(effect.changes))
        elif isinstance(effect, do.TakeParameters):
            restored = on.ResultsRestored(self.saved)
            return [on.NodesListed(self.nodes), restored, on.ParametersTaken(self.parameters)]
        elif isinstance(effect, do.ListNodes):
            return [on.NodesListed(self.nodes, came=True)]
        elif isinstance(effect, do.LookAtSegments):
            protocol = PROTOCOLS.get(effect.segmentation, "")
            return [
                on.SegmentsSeen(effect.segmentation, protocol, effect.keep_model, effect.recall)
            ]
        elif isinstance(effect, do.Match):
            return [self._matched(effect)]
        elif isinstance(effect, do.RememberCorrections):
            self.remembered.append(effect)
        return []

    def _matched(self, effect: do.Match) -> on.Matched:
        names = SEGMENTS.get(effect.segmentation, ())
        corrections = self.recalled if effect.recall else effect.corrections
        if not effect.protocol or not names or not effect.ct:
            return on.Matched(Matching(names), corrections)
        protocol = StructureProtocol.load(effect.protocol)
        chosen = {c: s or None for c, s in corrections if c in protocol.names and s in (*names, "")}
        mapping = propose_mapping(names, protocol, chosen)
        return on.Matched(
            Matching(names, protocol, mapping, (), tuple(chosen.items())), corrections
        )
