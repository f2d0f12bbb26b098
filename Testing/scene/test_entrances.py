"""Awkward cases through every entrance: whoever evaluates a dose gets the same numbers.

Each row is predicted by a real worker; its dose is then evaluated by the library, the command line,
the worker's own measures, the scene, the function behind the logic's `goals`, and training.
"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import (
    OBLIQUE,
    centered_grid,
    pelvis_case,
    random_network,
    write_case_folder,
    write_checkpoint,
    write_nifti,
)

from DosePredictionLib.app.summary import prediction_summary
from DosePredictionLib.case import DOSE_MASK, Case, Prescription
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings, encode
from DosePredictionLib.errors import NoProtocolError
from DosePredictionLib.evaluation.evaluate import EvaluationParts, evaluate
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.io import read_case
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume
from DosePredictionLib.worker.client import WorkerClient
from DosePredictionLib.worker.exchange import read_prediction, write_case
from DosePredictionLib.worker.measured import read_measures
from DosePredictionLib.worker.messages import Predict, PredictOptions
from training.data import TrainingCase
from training.evaluation import Candidate, record_of

Record = dict[str, Any]
SMALL = ((40, 32, 24), (10.0, 10.0, 10.0))
HEAD = ((48, 40, 40), (5.4, 5.4, 3.4))


@dataclass(frozen=True)
class Row:
    """An awkward case.

    Args:
        case: makes it, in the names that the clinic typed.
        mapping: by hand.
        goals: name or entries of a goal file; None: the default set.
        plan: the plan's dose on another grid than the case's.
        expected: what the record must say.
        training: keys of the record that training's evaluation shares; empty: it does not take
            such a case.
    """

    case: Callable[[], Case]
    expected: Callable[[Record], None]
    mapping: Mapping[str, str | None] = field(default_factory=dict)
    goals: tuple[Mapping[str, Any], ...] | None = None
    plan: Callable[[Case], Volume] | None = None
    training: tuple[str, ...] = ()


WHOLE = ("mae", "bias", "dose_score", "dvh_score", "ssim", "structures", "isodose", "pelvic")
"""What training shares where masks and grid are the case's own."""


def renamed(case: Case, names: Mapping[str, str], **changes: Any) -> Case:
    structures = {names.get(name, name): mask for name, mask in case.structures.items()}
    return replace(case, structures=structures, **changes)


def small() -> Case:
    return pelvis_case(*SMALL)


def with_bag() -> Case:
    return renamed(small(), {"Small_Intestine": "Bowel_Bag"})


def with_dose_mask() -> Case:
    case = small()
    assert case.plan_dose is not None
    inside = case.ct.with_array(case.plan_dose.array > 10)
    return replace(case, structures={**case.structures, "Possible_Dose_Mask": inside})


def with_zero_organ() -> Case:
    case = small()
    empty = case.ct.with_array(np.zeros(case.grid.shape, bool))
    return replace(case, structures={**case.structures, "Marrow": empty})


def breast() -> Case:
    names = {
        "PTV": "Tumour bed",
        "Bladder": "Heart",
        "Rectum": "Lung_L",
        "Small_Intestine": "LAD",
        "Marrow": "Breast_R",
        "FemurHead_L": "Lung_R",
        "FemurHead_R": "Liver",
    }
    return renamed(small(), names, prescription=Prescription({"Tumour bed": 45.0}))


def head(*targets: str, external: bool = True) -> Case:
    """Targets nested around one place, from the highest to the lowest."""
    case = pelvis_case(*HEAD)
    from scipy import ndimage

    organs = {
        "Bladder": "Mandible",
        "Rectum": "SpinalCord",
        "Marrow": "Larynx",
        "FemurHead_L": "LeftParotid",
        "FemurHead_R": "RightParotid",
    }
    masks = {new: case.structures[old] for old, new in organs.items()}
    target = case.structures["PTV"].array
    for index, name in enumerate(targets):
        masks[name] = case.ct.with_array(ndimage.binary_dilation(target, iterations=1 + index))
    if external:
        masks["External"] = case.structures["Body"]
    assert case.plan_dose is not None
    dose = case.plan_dose.with_array(case.plan_dose.array * np.float32(70 / 45))
    levels = {name: gy for name, gy in zip(targets, (70.0, 63.0, 56.0), strict=False)}
    return Case("head", case.ct, masks, dose, Prescription(levels, 35))


def on_finer_grid(case: Case) -> Volume:
    """The plan as a planning system has it: on its own grid, finer and a little apart."""
    assert case.plan_dose is not None
    # Weights of exact halves: a scene resamples in slabs, and may round the last bit otherwise.
    grid = centered_grid((81, 65, 49), (5.0, 5.0, 5.0))
    return case.plan_dose.resampled_to(grid, "linear")


def goal_of(record: Record, structure: str) -> list[Record]:
    return [goal for goal in record["goals"] if goal["structure"] == structure]


def plain(record: Record) -> None:
    assert record["protocol"] == "pelvis" and record["goal_set"] == "pelvis_nodal_45_50"
    assert record["dose_score_region"] == "body" and record["pelvic_score_points"] is not None


def bag_is_judged_as_a_bag(record: Record) -> None:
    small_intestine = goal_of(record, "Small_Intestine")
    assert len(small_intestine) == 6
    assert {goal["status"] for goal in small_intestine} == {"not_evaluable"}
    (bag,) = goal_of(record, "Bowel_Bag")
    assert bag["bound_to"] == "Small_Intestine" and bag["value"] is not None


def target_has_its_own_prescription(record: Record) -> None:
    values = record["structures"]["PTV63"]["endpoints"]
    own, by_name, highest = record["goals"]
    for which, goal in (("prediction", own), ("reference", own["reference"])):
        assert goal["value"] == pytest.approx(values["D95_gy"][which] / 0.63)
    assert own["bound_to"] == "PTV63" and by_name["status"] != "not_evaluable"
    mandible = record["structures"]["Mandible"]["endpoints"]["Dmax_gy"]["prediction"]
    assert by_name["value"] == pytest.approx(mandible / 0.63)
    assert highest["value"] == pytest.approx(mandible / 0.70)


PTV63_GOALS = (
    {"structure": "PTV63", "goal": "D95% >= 95 %Rx"},
    {"structure": "Mandible", "goal": "Dmax <= 105 %Rx", "prescription": "PTV63"},
    {"structure": "Mandible", "goal": "Dmax <= 105 %Rx"},
)


def region_is_named(record: Record) -> None:
    assert record["dose_score_region"] == "possible_dose_mask"
    assert DOSE_MASK not in {name.lower() for name in record["structures"]}
    assert record["dose_score_gy"] != pytest.approx(record["mae_body_gy"], rel=0.01)


def every_structure_by_its_own_name(record: Record) -> None:
    assert record["protocol"] is None and record["goals"] == [] and record["goal_set"] is None
    assert {"Tumour bed", "Heart", "Lung_L", "LAD", "Breast_R"} <= set(record["structures"])
    assert record["structures"]["Heart"]["mae_gy"] is not None
    assert record["dvh_score_gy"] is None and record["mae_body_gy"] > 0


def nothing_of_the_empty_one(record: Record) -> None:
    assert "Marrow" not in record["structures"]
    assert not any("Marrow" in term for term in record["dvh_score_terms_gy"])
    assert {goal["status"] for goal in goal_of(record, "Marrow")} == {"not_evaluable"}


def three_levels(record: Record) -> None:
    assert {"PTV70", "PTV63", "PTV56"} <= set(record["structures"])
    assert record["goal_set"] == "head_neck_70_35"
    volumes = [record["structures"][f"PTV{gy}"]["volume_cc"] for gy in (70, 63, 56)]
    assert volumes == sorted(volumes)  # as they were drawn, the higher inside the lower


def no_percentages(record: Record) -> None:
    assert record["isodose_dice"] == {} and record["masked_mae_d97_gy"] is None
    assert record["structures"]["PTV"]["endpoints"]["V95percent_percent"]["prediction"] is None
    assert record["goals"] == []


def scored(record: Record) -> None:
    assert record["dose_score_gy"] > 0 and record["dvh_score_gy"] > 0


ROWS = {
    "plain": Row(small, plain, training=WHOLE),
    "bowel bag by hand": Row(
        with_bag, bag_is_judged_as_a_bag, mapping={"Small_Intestine": "Bowel_Bag"}
    ),
    "PTV_63Gy by hand": Row(
        lambda: head("PTV70", "PTV_63Gy"),
        target_has_its_own_prescription,
        mapping={"PTV63": "PTV_63Gy"},
        goals=PTV63_GOALS,
    ),
    "PTV_63Gy by its name": Row(
        lambda: head("PTV70", "PTV_63Gy"), target_has_its_own_prescription, goals=PTV63_GOALS
    ),
    "dose mask": Row(with_dose_mask, region_is_named, training=WHOLE),
    "no protocol": Row(breast, every_structure_by_its_own_name),
    "all-zero organ": Row(with_zero_organ, nothing_of_the_empty_one, training=WHOLE),
    # Training makes nested targets disjoint, so that only what no target enters is shared.
    "nested targets": Row(
        lambda: head("PTV70", "PTV63", "PTV56"), three_levels, training=("mae", "bias")
    ),
    "no external contour": Row(lambda: head("PTV70", external=False), scored),
    "no prescription": Row(lambda: replace(small(), prescription=None), no_percentages),
    "plan on another grid": Row(small, scored, plan=on_finer_grid),
    "oblique CT": Row(lambda: pelvis_case(*SMALL, OBLIQUE), scored),
}


def of_rows(keep: Callable[[str, Row], bool]) -> pytest.MarkDecorator:
    """Only some rows."""
    names = [name for name, row in ROWS.items() if keep(name, row)]
    return pytest.mark.parametrize("evaluated", names, indirect=True)


# A prediction without a prescription takes the model's own; without a protocol there is none.
predicted = of_rows(lambda name, row: name not in ("no protocol", "no prescription"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DoseModel]:
    """Small networks with random weights, one for each protocol."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for protocol, structures in (("pelvis", 9), ("openkbp", 10)):
        checkpoint = write_checkpoint(folder / f"{protocol}.pt", random_network(structures))
        loaded = StructureProtocol.load(protocol)
        model = DoseModel.import_checkpoint(checkpoint, f"random-{protocol}", loaded, folder)
        if protocol == "pelvis":
            manifest = json.loads((model.folder / "model.json").read_text())
            manifest["encoding"]["grid"].update(size=[32, 32, 16], spacing_mm=[10.0, 10.0, 12.0])
            (model.folder / "model.json").write_text(json.dumps(manifest))
        found[protocol] = DoseModel.load(str(model.folder))
    return found


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerClient]:
    with WorkerClient(Path(sys.executable)) as client:
        yield client


@dataclass(frozen=True)
class Evaluated:
    """A row, its dose, and the record of the library that the others are held against."""

    row: Row
    folder: Path
    raw: Case
    case: Case
    prediction: Prediction | None
    dose: Volume
    goals: GoalSet | None
    goals_option: str
    record: Record
    worker: Record | None
    worker_folder: Path | None


@pytest.fixture(scope="module", params=list(ROWS))
def evaluated(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    worker: WorkerClient,
    models: dict[str, DoseModel],
) -> Evaluated:
    row, folder = ROWS[request.param], tmp_path_factory.mktemp("row")
    raw = row.case()
    case_folder = write_case_folder(folder / "patient", raw)
    if raw.dose_mask is not None:
        write_nifti(case_folder / "possible_dose_mask.nii.gz", raw.dose_mask)
    if row.plan is not None:
        write_nifti(case_folder / "dose_plan.nii.gz", row.plan(raw))
    case = read_case(case_folder)
    goals, option = None, "default"
    if row.goals is not None:
        content = {"schema": "dose-prediction-goals/1", "id": "own", "goals": row.goals}
        (folder / "goals.json").write_text(json.dumps(content))
        option = str(folder / "goals.json")
        goals = GoalSet.load(option)
    bound = bind(case, None, row.mapping)
    prediction, of_worker, output = None, None, None
    if bound.protocol is None:
        assert case.plan_dose is not None
        dose = case.plan_dose.with_array(case.plan_dose.array * np.float32(1.04))
    else:
        exchanged, output = write_case(folder / "exchanged", case), folder / "prediction"
        model = str(models[bound.protocol.id].folder)
        options = PredictOptions("cpu", "fp32", measure=True)
        mapping = dict(row.mapping)
        message = Predict("1", str(exchanged), str(output), model, mapping, options=options)
        worker.run(message, timeout_seconds=120)
        prediction = read_prediction(output, case)
        dose = prediction.dose
        if case.prescription is not None:  # without one, a prediction has the model's own
            measures = read_measures(output)
            of_worker = measures.judged(goals or _default(bound)).as_json()
    parts = EvaluationParts(goals=goals or "default")
    record = evaluate(bound, dose, parts).as_json()
    return Evaluated(
        row, folder, raw, case, prediction, dose, goals, option, record, of_worker, output
    )


def _default(bound: Any) -> GoalSet | None:
    return GoalSet.default(bound.protocol.id, bound.prescriptions_gy)


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, status and name of a record, by its place; times and files are none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("case", "checks", "source", "note"):
                yield from numbers(item, f"{place}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from numbers(item, f"{place}/{index}")
    else:
        yield place, value


def require_shared(ours: Record, theirs: Record, at_least: int) -> None:
    """Numbers in both records agree to 1e-6, and there are some."""
    first, second = dict(numbers(ours)), dict(numbers(theirs))
    shared = [place for place in first if place in second]
    assert len(shared) >= at_least, f"only {len(shared)} places are shared"
    for place in shared:
        one, other = first[place], second[place]
        if isinstance(one, float) and isinstance(other, (float, int)):
            assert other == pytest.approx(one, rel=1e-6, abs=1e-6), place
        else:
            assert one == other, place


def test_the_record_says_what_is_right(evaluated: Evaluated) -> None:
    evaluated.row.expected(evaluated.record)


def test_the_command_line_says_the_same(
    evaluated: Evaluated, run: Callable[..., Any], tmp_path: Path
) -> None:
    write_volume(tmp_path / "dose.nii.gz", evaluated.dose)
    options = [f"--map={key}={name}" for key, name in evaluated.row.mapping.items()]
    code, result, _ = run(
        "evaluate", "--case", evaluated.folder / "patient", "--prediction",
        tmp_path / "dose.nii.gz", "--goals", evaluated.goals_option, *options,
    )  # fmt: skip
    assert code == 0
    assert {key for key, _ in numbers(result)} == {key for key, _ in numbers(evaluated.record)}
    require_shared(evaluated.record, result, 100)


@predicted
def test_the_worker_says_the_same(evaluated: Evaluated) -> None:
    assert evaluated.worker is not None
    require_shared(evaluated.record, evaluated.worker, 100)


@of_rows(lambda name, row: name == "no protocol")
def test_the_worker_predicts_nothing_without_a_protocol(
    evaluated: Evaluated, worker: WorkerClient
) -> None:
    case = write_case(evaluated.folder / "unknown", evaluated.case)
    with pytest.raises(NoProtocolError, match="No protocol fits"):
        worker.run(Predict("2", str(case), str(evaluated.folder / "none")), 60)


@predicted
def test_the_record_of_a_prediction_says_the_same(evaluated: Evaluated) -> None:
    assert evaluated.prediction is not None
    summary = prediction_summary(evaluated.prediction, evaluated.goals or "default")
    require_shared(evaluated.record, {**summary["evaluation"], "goals": summary["goals"]}, 100)


@of_rows(lambda name, row: bool(row.training))
def test_training_says_the_same(evaluated: Evaluated) -> None:
    protocol = StructureProtocol.load(evaluated.record["protocol"])
    native = GridSettings("native", spacing_mm_min=(2, 2, 2), spacing_mm_max=(11, 11, 11))
    settings = EncodingSettings(native, masks="binary")
    prepared = TrainingCase.read(evaluated.folder / "patient", protocol, settings)
    grid = encode(bind(evaluated.case, protocol), settings).grid
    dose_gy = evaluated.dose.resampled_to(grid, "nearest").array
    levels = evaluated.case.prescription.target_gy if evaluated.case.prescription else {}
    theirs = record_of(Candidate(protocol, settings, levels, lambda case: dose_gy), prepared)
    theirs = {k: v for k, v in theirs.items() if k.startswith(evaluated.row.training)}
    # Where the grid was cropped, the body's surface lies at its edge.
    theirs.get("structures", {}).pop("Body", None)
    require_shared(evaluated.record, theirs, 3)


@pytest.fixture
def nodes(evaluated: Evaluated, request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """The row's case in a scene, as a person loads it."""
    pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
    request.getfixturevalue("scene")
    from DosePredictionLib.scene.loading import load_case
    from scene.nodes import volume_node

    ct, segmentation, plan = load_case(evaluated.raw)
    if evaluated.row.plan is not None:
        plan = volume_node(evaluated.row.plan(evaluated.raw), "plan")
    return ct, segmentation, plan


@predicted
def test_a_scene_says_the_same(evaluated: Evaluated, nodes: Any) -> None:
    from DosePredictionLib.scene import add_result, case_from_nodes

    source = case_from_nodes(*nodes, evaluated.case.prescription, name="patient")
    assert evaluated.prediction is not None
    prediction = replace(evaluated.prediction, case=source.case)
    goals = evaluated.goals or _default(prediction.bound)
    result = add_result(prediction, source, goals=goals)
    require_shared(evaluated.record, result.measures.as_json(), 100)
    assert result.planned_goals is None or len(result.planned_goals) == len(result.goals or ())
    table = result.nodes["scores"].GetTable().GetColumn(0)
    region = evaluated.record["dose_score_region"].replace("_", " ")
    names = [table.GetValue(row) for row in range(table.GetNumberOfValues())]
    assert f"OpenKBP dose score (over {region})" in names


def test_the_logic_says_the_same_of_a_dose_node(evaluated: Evaluated, nodes: Any) -> None:
    from DosePredictionLib.scene import evaluate_nodes
    from scene.nodes import volume_node

    levels = evaluated.case.prescription
    dose = volume_node(evaluated.dose, "dose")
    goals = evaluated.goals
    if goals is None and evaluated.record["goal_set"] is not None:
        goals = GoalSet.load(evaluated.record["goal_set"])
    found = evaluate_nodes(dose, nodes[1], goals, levels, evaluated.row.mapping)
    theirs = found.as_json()
    without_plan = json.loads(json.dumps(evaluated.record))
    for structure in (*without_plan["structures"].values(), *theirs["structures"].values()):
        for pair in structure["endpoints"].values():
            del pair["reference"]
    for goal in without_plan["goals"]:
        del goal["reference"]
    if not any("xternal" in n or n == "Body" for n in theirs["structures"]):
        # Indices in the body need one: a dose alone has the whole grid instead.
        without_plan["goals"] = [g for g in without_plan["goals"] if "CI" not in g["goal"]]
    require_shared(without_plan, theirs, 60)


@of_rows(lambda name, row: name == "bowel bag by hand")
def test_the_report_shows_the_chosen_goals_and_none_without(
    evaluated: Evaluated, nodes: Any, tmp_path: Path
) -> None:
    from DosePredictionLib.scene import add_result, case_from_nodes, set_goals, write_result_report
    from DosePredictionLib.worker.messages import WriteReport
    from DosePredictionLib.worker.side_jobs import write_report

    assert evaluated.prediction is not None and evaluated.worker_folder is not None
    source = case_from_nodes(*nodes, evaluated.case.prescription)
    prediction = replace(evaluated.prediction, case=source.case)
    without = add_result(prediction, source)
    result = set_goals(without, GoalSet.load("prostate_60_20"))
    assert {goal["status"] for goal in result.goals or ()} >= {"met", "not_met"}

    def by_worker(goals: list[Record]) -> str:
        folders = (str(evaluated.folder / "exchanged"), str(evaluated.worker_folder))
        request = WriteReport("r", *folders, str(tmp_path / "worker.html"), tuple(goals))
        return Path(write_report(request).folder).read_text(encoding="utf-8")

    assert "Clinical goals" not in by_worker(without.measures.goal_records)
    by_scene = write_result_report(result, prediction, tmp_path / "scene.html")
    for page in (by_worker(result.measures.goal_records), by_scene.read_text(encoding="utf-8")):
        assert "Clinical goals" in page
        for goal in result.goals or ():
            shown = goal["goal"].replace("<=", "≤").replace(">=", "≥")
            assert html.escape(shown) in page
