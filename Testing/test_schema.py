"""Every field of every kind of file has a range: what lies beyond it is refused by its name."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest

from DosePredictionLib.app.bands import NoticedThen, PredictedBy, PredictedFor, PredictionRecord
from DosePredictionLib.beams.arrangement import Aperture, Beam, BeamArrangement
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.checks.distribution import Distribution, Measured
from DosePredictionLib.encoding.beams import BeamInputs
from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.encoding.wishes import WishInputs
from DosePredictionLib.errors import CaseError, DosePredictionError, ModelError
from DosePredictionLib.evaluation.calibration import (
    Calibration,
    LevelCoverage,
    StructureCalibration,
)
from DosePredictionLib.evaluation.goals import GoalEntry, GoalFile, GoalSet
from DosePredictionLib.evaluation.scorecard import (
    CardFile,
    CardLine,
    CardPoint,
    CardStructure,
    Scorecard,
)
from DosePredictionLib.evaluation.widths import StructureWidths
from DosePredictionLib.io import read_case
from DosePredictionLib.io.nifti import _CaseDescription
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.models.manifest import Architecture, Member, ModelManifest
from DosePredictionLib.networks.configs import ARCHITECTURES
from DosePredictionLib.planning.machine import Machine
from DosePredictionLib.schema import (
    FieldError,
    Length,
    Name,
    Pattern,
    Range,
    field_types,
    from_json,
    parse_json,
    read_json,
    to_json,
    validated,
)
from DosePredictionLib.structures.protocol import Channel, StructureProtocol
from DosePredictionLib.wishes import Wish
from training.__main__ import load_recipe, main
from training.clinical import CohortNames
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig
from training.export import Described, Evaluated, ScoredCase
from training.overrides import overridden
from training.simulation.cohort import Record
from training.simulation.planning import PlanQuality
from training.simulation.population import draw_patient
from training.simulation.settings import CohortSettings, PlanCohortSettings, PlanSettings

XYZ = (3.0, 3.0, 3.0)
TWO_STAGE = Architecture("two_stage", {"structure_channels": 9, "stage1_filters": 2})
ENCODING = EncodingSettings(
    GridSettings("as-is", (64, 64, 32), XYZ, XYZ, XYZ, 100.0),
    strips=StripSettings(margin_mm=5.0),
    derived=DerivedInputs("targets"),
)
WISH = Wish("Rectum", 40.0, 25.0)
BEAMS = BeamArrangement(
    (Beam(181.0, 179.0, aperture=Aperture(("PTV",))),), isocenter_mm=(1.0, 2.0, 3.0)
)
MANIFEST = ModelManifest(
    schema_version=1,
    name="model",
    title="A model",
    protocol="pelvis",
    architecture=TWO_STAGE,
    encoding=ENCODING,
    expectations=ModelExpectations(
        XYZ, XYZ, {"PTV": 45.0}, 25, "IMRT", -1000.0, 3000.0, beams=(BEAMS,)
    ),
    weights_sha256="0" * 64,
    members=(Member("weights-2.safetensors", "1" * 64, TWO_STAGE),),
    rides_on=("2" * 64,),
)
PROTOCOL = StructureProtocol(
    "own",
    "My own",
    "",
    (
        Channel("PTV", "target", "PTV", "PTV", "#d62728", True, ("Target",), ("GTV",), None, 60.0),
        Channel("Eye_L", "organ", "Left eye", "Eye_L", "#000000", side="left"),
    ),
)
GOALS = GoalFile(
    schema="dose-prediction-goals/1",
    goals=(GoalEntry("PTV", "D95% >= 95 %Rx", "D95% >= 90 %Rx", 1, "S", "", "PTV", 8.0),),
    id="mine",
    title="Mine",
    sources={"S": "a source"},
    protocol="pelvis",
    prescription_gy=(44.0, 52.0),
)
CARD = CardFile(
    (
        CardLine(
            CardStructure("PTV", "PTV"), "MeanDose", (CardPoint(0, 1),), 3.0, "Gy", "Gy", "why"
        ),
    ),
    "A card",
    2.0,
    25.0,
)
RECIPE = TrainingConfig(
    "pelvis",
    ENCODING,
    crop=(16, 16, 16),
    ema_start=0.9,
    frozen=("stage1",),
    loss=(LossTerm("mae", 1.0),),
    augmentation=AugmentationConfig(drop_structures={"Marrow": 0.4}),
    prescription_gy={"PTV": 45.0},
)
RECORD = Record(
    "sim_1_0000", "test", draw_patient(1), PlanQuality(1.0, 1.1, 0.8, 1.0), ("no good",), 1.0, 2.0
)
CALIBRATION = Calibration(
    schema_version=1,
    model="model",
    weights_sha256=("0" * 64,),
    protocol="pelvis",
    prescription_gy={"PTV": 45.0},
    patients=tuple("abcdefghi"),
    structures={
        "PTV": StructureCalibration(
            {"D95_gy": (1.0,) * 9},
            (0.5,) * 99,
            (2.0,) * 9,
            {"D95_gy": (45.0,) * 9},
            {"D95_gy": (0.8,) * 9},
            (1.5,) * 9,
        ),
    },
    coverage=(LevelCoverage(90, 91.0, 92.0, (85.0, 95.0), 200, 4.0, 5.0),),
    grid="native",
)
DISTRIBUTION = Distribution(
    schema_version=1,
    model="model",
    weights_sha256=("0" * 64,),
    protocol="pelvis",
    patients=40,
    measures=(
        Measured("Rectum.volume", 4.0, 0.3, 3.0, 5.0),
        Measured("body.noise", 12.0, 2.0, 8.0, 20.0),
    ),
    correlation=(0.1,),
    threshold=5.0,
    share_percent=95.0,
    directions={"size": 1.0, "hu": 1.0},
)
KINDS: dict[str, Any] = {
    "machine": Machine.load("generic-120"),
    "model.json": MANIFEST,
    "protocol": PROTOCOL,
    "goals": GOALS,
    "scorecard": CARD,
    "case.json": _CaseDescription({"PTV": 45.0}, 25, "IMRT", "a case", BEAMS, (WISH,)),
    "config.json": RECIPE,
    "cohort.json": CohortSettings(45),
    "cohort.json of many plans": PlanCohortSettings(45),
    "record": RECORD,
    "names.json": CohortNames("pelvis", {"Blase": "Bladder"}, {"Blase": 3}, {"Blase": "synonym"}),
    "data.json": Described({}, "MIT", {"PTV": 45.0}, 25, "VMAT", ("pt_1",), ("0,90",)),
    "encoding.further.beam": BeamInputs(BEAMS, RayModel()),
    "encoding.further.wish": WishInputs({"Rectum": 40.0}),
    "calibration.json": CALIBRATION,
    "distribution.json": DISTRIBUTION,
    "prediction.json": PredictionRecord(
        PredictedBy("model", "pelvis", "0" * 64, ("1" * 64,)),
        PredictedFor({"PTV": 45.0}),
        (NoticedThen("metal"),),
        {"PTV": StructureWidths({"D95_gy": 0.8}, (0.5,) * 99)},
    ),
    "evaluation": Evaluated({}, (ScoredCase("pt_1", 3.0, 2.0),)),
    **{f"network {name}": entry.config(9) for name, entry in ARCHITECTURES.items()},
}
FOREIGN = {"scorecard", "evaluation", "prediction.json"}
"""Files of other programs, and of which only a part is read: they may hold more."""

FREE = {
    *("training", "validation", "summary"),
    *("arguments", "options", "further", "task_options"),
}
"""Fields of any JSON: figures to show, or what a network, loss, channel or task checks itself."""


class Wrong(NamedTuple):
    """A value that must be refused: where it goes, and what the message must name."""

    path: tuple[str | int, ...]
    value: object
    what: str
    names: str


REMOVED = object()


def kinds_of(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A field's type without None and annotations, and the rules beside it."""
    rules: tuple[Any, ...] = ()
    while True:
        origin = typing.get_origin(kind)
        if origin is Annotated:
            kind, *more = typing.get_args(kind)
            rules += tuple(more)
        elif origin in (typing.Union, types.UnionType):
            kind = [each for each in typing.get_args(kind) if each is not type(None)][-1]
        else:
            return kind, rules


def beyond(rule: Any, example: Any) -> Iterator[tuple[str, object]]:
    """Values that a rule forbids."""
    if isinstance(rule, Range):
        yield "below", rule.low if rule.above else rule.low - max(1, abs(rule.low) * 1e-6)
        yield "above", rule.high if rule.below else rule.high + max(1, abs(rule.high) * 1e-6)
    elif isinstance(rule, Pattern):
        yield "another text", "no such text!"
    elif isinstance(rule, Length) and isinstance(example, str):
        if rule.low:
            yield "empty", ""
        yield "too long", "x" * (rule.high + 1)
    elif isinstance(rule, Length):
        if rule.low:
            yield "empty", type(example)()
        if isinstance(example, Mapping):
            yield "too many", {str(number): 1.0 for number in range(rule.high + 1)}
        else:
            yield "too many", list(example)[:1] * (rule.high + 1)
        if rule.unique:
            yield "twice", [*example, example[0]]


def wrong_values(kind: Any, example: Any, path: tuple[str | int, ...]) -> Iterator[Wrong]:
    """What must be refused in the place of an example; fails where a type has no range."""
    kind, rules = kinds_of(kind)
    name = [part for part in path if isinstance(part, str)][-1:] or [""]
    names = str(name[0])
    if kind is Any or names in FREE:
        assert names in FREE, f"{path}: a field of any JSON must be listed as free"
        return
    assert example is not None, f"{path} has no example"
    for rule in rules:
        for what, value in beyond(rule, example):
            whole = round(value) if kind is int and isinstance(value, float) else value
            yield Wrong(path, whole, what, names)
    if dataclasses.is_dataclass(kind):
        yield Wrong(path, 3, "no object", names)
        yield from wrong_fields(kind, example, path)
    elif typing.get_origin(kind) is tuple:
        yield Wrong(path, "text", "no list", names)
        members = typing.get_args(kind)
        if members[1:] == (Ellipsis,):
            assert any(isinstance(rule, Length) for rule in rules), f"{path} has no length"
        else:
            yield Wrong(path, list(example) * 2, "too many", names)
        yield from wrong_values(members[0], example[0], (*path, 0))
    elif typing.get_origin(kind) in (dict, Mapping):
        yield Wrong(path, [1], "no object", names)
        assert example, f"{path} has no example"
        key = next(iter(example))
        assert kinds_of(typing.get_args(kind)[0])[1], f"{path}: keys have no length"
        for wrong in wrong_values(typing.get_args(kind)[1], example[key], (*path, key)):
            yield wrong._replace(names=names)
    elif kind is bool or typing.get_origin(kind) is Literal:
        yield Wrong(path, 0.5, "another value", names)
    else:
        assert kind in (float, int, str), f"{path} is of the type {kind}: teach this test"
        assert rules, f"{path} has no range; give it one, or list it as free"
        yield Wrong(path, {"no": 1}, "another type", names)
        yield Wrong(path, True, "a truth", names)
        if kind is not str:
            yield from (Wrong(path, x, str(x), names) for x in (math.nan, math.inf, 10**400, "one"))
        if kind is int:
            yield Wrong(path, 1.5, "a fraction", names)


def wrong_fields(cls: Any, example: Any, path: tuple[str | int, ...]) -> Iterator[Wrong]:
    for field in dataclasses.fields(cls):
        place = (*path, field.name)
        yield from wrong_values(field_types(cls)[field.name], example[field.name], place)
        if field.default is field.default_factory is dataclasses.MISSING:
            yield Wrong(place, REMOVED, "missing", field.name)
    yield Wrong((*path, "surprise"), 1, "unknown", "surprise")


def example_of(kind: str) -> dict[str, Any]:
    """The example as JSON, every field with a value."""
    example: dict[str, Any] = json.loads(json.dumps(to_json(KINDS[kind])))
    for channel in example.get("channels", ()) if kind == "protocol" else ():
        channel.update(synonyms=channel["synonyms"] or ["S"], side=channel["side"] or "left")
    return example


def changed(content: dict[str, Any], wrong: Wrong) -> dict[str, Any]:
    content = copy.deepcopy(content)
    node: Any = content
    for part in wrong.path[:-1]:
        node = node[part]
    if wrong.value is REMOVED:
        del node[wrong.path[-1]]
    else:
        node[wrong.path[-1]] = wrong.value
    return content


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_file_is_refused_by_its_name(kind: str) -> None:
    cls, content = type(KINDS[kind]), example_of(kind)
    ignored: list[str] | None = [] if kind in FOREIGN else None
    assert from_json(cls, content, "FILE", ModelError, ignored) is not None
    cases = list(wrong_fields(cls, content, ()))
    assert len(cases) > 3 * len(dataclasses.fields(cls))
    for wrong in cases:
        if wrong.what == "unknown" and kind in FOREIGN:
            continue
        with pytest.raises(ModelError) as caught:
            pytest.fail(f"{wrong} -> {from_json(cls, changed(content, wrong), 'FILE', ModelError)}")
        message = str(caught.value)
        assert "FILE" in message and wrong.names in message, (wrong, message)
        assert "\n" not in message and len(message) < 600, message


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_in_python_is_checked_alike(kind: str) -> None:
    instance = KINDS[kind]
    for name, declared in field_types(type(instance)).items():
        plain, rules = kinds_of(declared)
        for rule in rules:
            example = getattr(instance, name)
            for what, value in beyond(rule, list(example) if plain is tuple else example):
                value = round(value) if plain is int and isinstance(value, float) else value
                with pytest.raises(DosePredictionError, match=f"{type(instance).__name__}.{name}"):
                    pytest.fail(f"{name} {what}: {replace(instance, **{name: value})}")


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: replace(ENCODING, dose_scale_gy=0), r"dose_scale_gy .*above 0 .*200; got 0"),
        (lambda: replace(ENCODING, dose_scale_gy=-52), r"dose_scale_gy .*got -52"),
        (lambda: replace(ENCODING, ct_window_hu=(100, -100)), "ct_window_hu must rise"),
        (lambda: StripSettings(margin_mm=math.nan), "margin_mm .*got nan"),
        (lambda: StripSettings((0, 90, 90)), r"angles .*no entry twice.*\(0, 90, 90\)"),
        (lambda: StripSettings((0, 45)), "angles must hold 135"),
        (lambda: GridSettings("fixed-spacing", spacing_mm=(1e6, 1, 1)), r"spacing_mm\[0\]"),
        (lambda: GridSettings("fixed-spacing"), "spacing_mm must be given"),
        (lambda: GridSettings("as-is", spacing_mm=XYZ), "size must be given"),
        (
            lambda: GridSettings("native", spacing_mm_min=XYZ, spacing_mm_max=(1.0, 4.0, 4.0)),
            "spacing_mm_max must not be smaller",
        ),
        (lambda: ModelExpectations(hu_min=10, hu_max=-10), "hu_max must not be smaller"),
        (lambda: Architecture("two_stage", {"structure_channels": 9, "stage1_filters": -1}), "-1"),
        (lambda: replace(RECIPE, learning_rate=0), "learning_rate .*above 0"),
        (lambda: replace(RECIPE, crop=(16, 24, 16)), r"crop must be multiples of 16.*24"),
        (lambda: replace(RECIPE, loss=(LossTerm("mae", 1), LossTerm("mae", 2))), "loss must have"),
        (lambda: NetworkConfig(options={"structure_channels": 3}), "options must leave"),
        (lambda: NetworkConfig(options={"depth": 3}), "depth"),
        (lambda: NetworkConfig(architecture="diffusion"), "does not know the architecture"),
        (lambda: PlanSettings(beams=0), "beams"),
        (lambda: GoalEntry("PTV", "gEUD < 3 Gy", geud_a=0), "geud_a must not be 0"),
        (lambda: replace(PROTOCOL, channels=PROTOCOL.channels[1:]), "no channel with the role"),
        (lambda: replace(PROTOCOL.channels[1], level_gy=60), "level_gy is for targets"),
    ],
)
def test_impossible_settings_are_refused(make: Any, names: str) -> None:
    with pytest.raises(DosePredictionError, match=names):
        make()


def test_numbers_become_what_the_field_states() -> None:
    settings = replace(ENCODING, dose_scale_gy=np.float32(52), ct_window_hu=[-500, np.int16(500)])
    assert to_json(settings)["dose_scale_gy"] == 52.0
    assert settings.ct_window_hu == (-500.0, 500.0)
    assert json.loads(json.dumps(to_json(settings)))["ct_window_hu"] == [-500.0, 500.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ('{"a": NaN}', "a is not a finite"),
        ('{"a": [-Infinity]}', r"a\[0\] is not a finite"),
        ('{"a": 1e999}', "a is not a finite"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a is not a finite"),
        ("\ud800", "surrogate|utf-8|codec"),
        ("", "Expecting"),
    ],
)
def test_json_that_is_none_names_the_file_in_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CaseError, match=rf"file\.json is no valid JSON: .*({reason})") as caught:
        read_json(path, CaseError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(CaseError, match="cannot be read"):
        read_json(tmp_path, CaseError)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "file.json") == parse_json('{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("file", "content", "names"),
    [
        ("goals", {"goals": [{"structure": "R", "goal": 3}]}, r"goals\[0\]\.goal"),
        ("goals", {"goals": []}, "goals must be a list"),
        ("goals", {"goals": {"a": 1}}, "goals must be a list"),
        ("goals", {"goals": [None]}, r"goals\[0\] must be an object"),
        ("goals", {"prescription_gy": [52, 44]}, "prescription_gy must be the lowest"),
        ("goals", {"prescription_gy": [52]}, "prescription_gy must have 2"),
        ("goals", {"sources": [1]}, "sources must be an object"),
        ("goals", {"goal": []}, r"unknown entries \['goal'\]"),
        ("card", {"ScoreTemplates": [None]}, r"ScoreTemplates\[0\] must be an object"),
        ("card", {"ScoreTemplates": {"a": 1}}, "ScoreTemplates must be a list"),
        ("card", {"DosePerFraction": [2]}, "DosePerFraction must be"),
        ("card", {"NumberOfFractions": "many"}, "NumberOfFractions must be"),
    ],
)
def test_goals_and_scorecards_of_wrong_shapes_are_refused(
    tmp_path: Path, file: str, content: dict, names: str
) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(to_json(GOALS if file == "goals" else CARD) | content))
    with pytest.raises(DosePredictionError, match=rf"file\.json.*{names}"):
        GoalSet.read(path) if file == "goals" else Scorecard.read(path)


def test_a_scorecard_may_hold_numbers_as_texts_and_more(tmp_path: Path) -> None:
    card = to_json(CARD) | {"DosePerFraction": "2.0", "NumberOfFractions": "25", "Creator": "me"}
    card["ScoreTemplates"][0] |= {"InputValue": "", "Rank": 3}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert Scorecard.read(tmp_path / "card.json").prescription_gy == 50.0


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"prescription": {"PTV": 0}}, "prescription.PTV .*above 0"),
        ({"prescription": {"PTV": -45}}, "prescription.PTV"),
        ({"prescription": {"PTV": 4500}}, "prescription.PTV .*200; got 4500"),
        ({"prescription": {"PTV": 45}, "fractions": 0}, "fractions"),
        ({"prescription": {"PTV": 45}, "fraction": 25}, "fraction"),
        ({"prescription": [45]}, "prescription must be an object"),
        (None, "must be an object"),
    ],
)
def test_a_case_file_out_of_range_is_refused(
    case_folder: Path, content: object, names: str
) -> None:
    (case_folder / "case.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match=rf"case\.json.*{names}"):
        read_case(case_folder)


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ("learning_rate=0", "learning_rate"),
        ("learning_rate=NaN", "learning_rate .*NaN"),
        ("batch_size=0", "batch_size"),
        ("crop=[1,2,3]", "crop"),
        ("network.stage2_filters=-8", "stage2_filters"),
        ("network.options.stage2_filters=0.1", "stage2_filters"),
        ("network.architecture=ddim", "ddim"),
        ("encoding.ct_window_hu=[1000,-1000]", "ct_window_hu"),
        ("encoding.strips.angles=[0,0]", "angles"),
        ("encoding.dose_scale_gy=-52", "dose_scale_gy"),
        ("augmentation.drop_structures.Marrow=2", "drop_structures.Marrow"),
        ("loss=[]", "loss"),
        ("steps=" + "9" * 5000, "steps"),
        ("options=" + "[" * 100_000, "options"),
    ],
)
def test_values_set_on_the_command_line_have_the_same_ranges(assignment: str, names: str) -> None:
    with pytest.raises(DosePredictionError, match=names) as caught:
        overridden(load_recipe("pelvis_simulated"), [assignment])
    assert len(str(caught.value)) < 600


def test_every_recipe_is_within_its_ranges() -> None:
    folder = Path(__file__).parent.parent / "training" / "recipes"
    for path in folder.glob("[!_]*.py"):
        recipe = load_recipe(path.stem)
        assert from_json(TrainingConfig, json.loads(json.dumps(to_json(recipe)))) == recipe


TRAIN = ("train", "--training", "t", "--validation", "v", "--output", "o")
PREPARE = ("prepare", "--cases", "c", "--output", "o")
SIMULATE = ("simulate", "--cases", "3", "--seed", "1", "--output", "o")


@pytest.mark.parametrize(
    "arguments",
    [
        (*TRAIN, "--steps", "-3"),
        (*TRAIN, "--steps", "0"),
        (*TRAIN, "--workers", "-1"),
        (*TRAIN, "--workers", "1000000"),
        (*TRAIN, "--validate-on", "0"),
        (*TRAIN, "--time-limit", "nan"),
        (*TRAIN, "--time-limit", "-1"),
        (*TRAIN, "--device", "x"),
        (*TRAIN, "--device", "cuda:99"),
        (*PREPARE, "--workers", "0"),
        (*PREPARE, "--workers", "1000000"),
        ("prepare-clinical", "--cases", "c", "--output", "o", "--workers", "0"),
        (*SIMULATE, "--prescription", "0"),
        (*SIMULATE, "--prescription", "-45"),
        (*SIMULATE, "--beams", "0"),
        (*SIMULATE, "--bixel", "-1"),
        (*SIMULATE, "--dose-grid", "0"),
        (*SIMULATE, "--iterations", "0"),
        (*SIMULATE, "--spacing", "3", "3", "0.01"),
        (*SIMULATE, "--workers", "0"),
        (*SIMULATE, "--seed", "-1"),
        ("nonsense",),
        (),
    ],
)
def test_a_wrong_call_of_the_trainer_is_one_line(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("\n") == 1
    option = arguments[-2] if len(arguments) > 3 else ""
    if option == "--device":
        assert arguments[-1] in printed.err
    elif option.startswith("--"):
        assert (option in printed.err and "at least" in printed.err) or "above" in printed.err
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize("content", [None, [], {"cases": []}, {"summary": {}, "cases": [{}]}])
def test_a_card_is_filled_from_an_evaluation_alone(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    call = ["card", "--model", "m", "--evaluation", str(path), "--cases", "some"]
    assert main(call) == 2
    assert "evaluation.json" in capsys.readouterr().err


def test_a_rule_between_fields_is_one_line_with_its_place() -> None:
    @dataclass(frozen=True)
    @validated
    class Inner:
        low: Annotated[float, Range(0, 10)]
        high: Annotated[float, Range(0, 10)]

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise FieldError("high", f"must not be below low; got {self.high}.")

    with pytest.raises(FieldError, match=r"^high must not"):
        Inner(3, 2)
    with pytest.raises(DosePredictionError, match=r"^Inner\.low .*at least 0 and at most 10"):
        Inner(-1, 2)
    with pytest.raises(ModelError, match=r"^a\.json\.high must not be below low; got 2\.0\.$"):
        from_json(Inner, {"low": 3, "high": 2}, "a.json", ModelError)


def test_ignored_entries_are_named_with_their_place() -> None:
    content = to_json(MANIFEST) | {"later": 1}
    content["encoding"] |= {"later": 2}
    ignored: list[str] = []
    assert from_json(ModelManifest, content, "m", ModelError, ignored) == MANIFEST
    assert ignored == ["m.later", "m.encoding.later"]


def test_names_of_one_type_are_shared() -> None:
    assert kinds_of(Name) == (str, (Length(1, 200),))
