"""Doses from leaf positions and monitor units, against closed forms and pyRadPlan's own engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plans import MACHINE, PAIRS, sound_beam

from DosePredictionLib.beams.tracing import Anatomy
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.errors import CaseError
from DosePredictionLib.planning import engine
from DosePredictionLib.planning.kernels import FieldLattice, KernelModel
from DosePredictionLib.planning.recompute import fluence_mu, plan_dose
from DosePredictionLib.volume import Grid, Volume

pytest.importorskip("pyRadPlan")

SPACING = 5.0
EDGE = 61
NO_LEAKAGE = replace(MACHINE, transmission=0.0)


@pytest.fixture(scope="module")
def model() -> KernelModel:
    return engine.kernel_model()


def water(radius_mm: float | None = None, edge: int = EDGE) -> Anatomy:
    """A cube of water around the origin, or a cylinder along z."""
    half = SPACING * (edge - 1) / 2
    grid = Grid((edge,) * 3, (SPACING,) * 3, (-half,) * 3)
    inside = np.ones(grid.shape, dtype=bool)
    if radius_mm is not None:
        _, y, x = np.indices(grid.shape) * SPACING - half
        inside = np.hypot(x, y) <= radius_mm
    return Anatomy(grid, inside.astype(np.float32), inside, {"target": inside})


def field(
    x_mm: tuple[float, float],
    y_mm: tuple[float, float] = (-50.0, 50.0),
    gantry: float = 0.0,
    isocenter_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    mu: float = 100.0,
) -> TreatmentBeam:
    """An open field: the leaves stand on the X jaws."""
    beam = sound_beam(segments=1, mu=mu)
    points = beam.points
    leaves = np.tile(np.array(x_mm, dtype=float)[None, :, None], (points, 1, PAIRS))
    return replace(
        beam,
        leaves_mm=leaves,
        jaws_x_mm=np.tile(x_mm, (points, 1)).astype(float),
        jaws_y_mm=np.tile(y_mm, (points, 1)).astype(float),
        gantry_degrees=np.full(points, gantry),
        isocenter_mm=isocenter_mm,
    )


def at(dose: Volume, x: float, y: float, z: float = 0.0) -> float:
    index = np.round(dose.grid.index_from_world([x, y, z])).astype(int)
    return float(dose.array[tuple(index[::-1])])


# The cube's surface towards a beam from above lies at y = −152.5: the outermost voxels' faces.
SURFACE = -SPACING * EDGE / 2


def isocenter_at_depth(depth_mm: float) -> tuple[float, float, float]:
    return (0.0, SURFACE + depth_mm, 0.0)


def test_a_hundred_monitor_units_are_one_gray_where_the_unit_is_defined(model: KernelModel) -> None:
    beam = field((-50, 50), isocenter_mm=isocenter_at_depth(100.0))
    dose = plan_dose([beam], water(), model, MACHINE)
    # Depths are those of voxels: the reference lies half a voxel beside one.
    here = (at(dose, 0, SURFACE + 97.5) + at(dose, 0, SURFACE + 102.5)) / 2
    assert here == pytest.approx(1.0, abs=0.01)


def test_dose_falls_with_the_square_of_the_distance(model: KernelModel) -> None:
    """The same depth and field at SSD 90 and 100 cm: (100 cm / 110 cm)², to 1 %."""
    doses = []
    for ssd_mm in (900.0, 1000.0):
        isocenter = (0.0, SURFACE + 1000.0 - ssd_mm, 0.0)
        dose = plan_dose([field((-50, 50), isocenter_mm=isocenter)], water(), model, MACHINE)
        doses.append(at(dose, 0, SURFACE + 97.5))
    expected = ((1000.0 - 2.5) / (1100.0 - 2.5)) ** 2
    assert doses[1] / doses[0] == pytest.approx(expected, rel=0.01)


def test_closed_leaves_give_their_transmission(model: KernelModel) -> None:
    open_ = field((-50, 50))
    closed = replace(open_, leaves_mm=np.full_like(open_.leaves_mm, 60.0))
    doses = [at(plan_dose([beam], water(), model, MACHINE), 0, 0) for beam in (open_, closed)]
    assert doses[1] / doses[0] == pytest.approx(MACHINE.transmission, rel=0.1)


def test_a_gap_in_the_field_gives_more_than_leakage(model: KernelModel) -> None:
    open_ = field((-50, 50))
    shut = replace(open_, leaves_mm=np.zeros_like(open_.leaves_mm))
    gap = np.zeros_like(open_.leaves_mm)
    gap[:, 0], gap[:, 1] = -MACHINE.min_gap_mm / 2, MACHINE.min_gap_mm / 2
    doses = [
        at(plan_dose([replace(open_, leaves_mm=leaves)], water(), model, MACHINE), 0, 0)
        for leaves in (shut.leaves_mm, gap)
    ]
    assert doses[1] > 1.2 * doses[0]


def test_the_edge_of_a_field_gets_half_of_what_the_whole_gets(model: KernelModel) -> None:
    """Two half fields are one whole: at their common edge each gives half."""
    whole, left, right = (field(x) for x in ((-50, 50), (-50, 0), (0, 50)))
    doses = [plan_dose([beam], water(), model, NO_LEAKAGE) for beam in (whole, left, right)]
    np.testing.assert_allclose(doses[0].array, doses[1].array + doses[2].array, atol=2e-5)
    for y in (-100.0, 0.0):
        assert at(doses[1], 0, y) == pytest.approx(at(doses[0], 0, y) / 2, rel=0.01)


def test_segments_add_up(model: KernelModel) -> None:
    beam = sound_beam(segments=3, mu=60.0)
    beam = replace(beam, isocenter_mm=(0.0, 0.0, 0.0))
    together = plan_dose([beam], water(), model, MACHINE)
    apart = [
        plan_dose(
            [
                replace(
                    beam,
                    weight=np.array([0.0, 1.0]),
                    meterset=20.0,
                    **{
                        name: getattr(beam, name)[2 * i : 2 * i + 2]
                        for name in (
                            "leaves_mm",
                            "jaws_x_mm",
                            "jaws_y_mm",
                            "gantry_degrees",
                            "collimator_degrees",
                            "couch_degrees",
                        )
                    },
                )
            ],
            water(),
            model,
            MACHINE,
        ).array
        for i in range(3)
    ]
    np.testing.assert_allclose(together.array, np.sum(apart, axis=0), atol=2e-5)


@pytest.mark.parametrize("gantry", [40.0, 90.0, 180.0, 270.0])
def test_a_cylinder_gets_the_same_from_every_side(model: KernelModel, gantry: float) -> None:
    anatomy = water(radius_mm=120.0)
    above, turned = (
        at(plan_dose([field((-50, 50), gantry=angle)], anatomy, model, MACHINE), 0, 0)
        for angle in (0.0, gantry)
    )
    # Steps of voxels at the surface are worth about a millimeter of depth.
    assert turned == pytest.approx(above, rel=0.015)


@pytest.mark.parametrize(
    ("gantry", "place"),
    [
        (0.0, (40.0, 0.0)),
        (90.0, (0.0, 40.0)),
        (180.0, (-40.0, 0.0)),
        (270.0, (0.0, -40.0)),
    ],
)
def test_the_positive_side_is_that_of_iec_61217(
    model: KernelModel, gantry: float, place: tuple[float, float]
) -> None:
    """Seen from the source, head up: from above +X is the patient's left, from the left, down."""
    dose = plan_dose([field((30, 50), gantry=gantry)], water(radius_mm=120.0), model, MACHINE)
    x, y = place
    assert at(dose, x, y) > 10 * at(dose, -x, -y)


def test_y_runs_to_the_head_and_a_turned_collimator_turns_the_field(model: KernelModel) -> None:
    beam = field((-50, 50), (20, 40))
    dose = plan_dose([beam], water(), model, MACHINE)
    assert at(dose, 0, 0, 30) > 10 * at(dose, 0, 0, -30)
    # By 90°, counterclockwise seen from the patient's feet: +Y comes to where −X was.
    turned = replace(beam, collimator_degrees=np.full(beam.points, 90.0))
    dose = plan_dose([turned], water(), model, MACHINE)
    assert at(dose, -30, 0, 0) > 10 * at(dose, 30, 0, 0)


def test_fluences_are_exact_for_leaves_between_elements() -> None:
    lattice = FieldLattice(20, 20)
    beam = field((-3.25, 4.5), (-5.0, 10.0), mu=10.0)
    fluence = fluence_mu(beam, lattice, 0.0)
    assert fluence.sum() == pytest.approx(10 * 7.75 * 15.0)
    assert fluence[20, 20] == pytest.approx(10.0)
    assert fluence[20, 20 - 3] == pytest.approx(7.5)  # from −3.5 to −2.5: open from −3.25


def test_a_moving_leaf_counts_with_the_mean_of_its_ends() -> None:
    beam = field((-10.0, 10.0), mu=10.0)
    leaves = beam.leaves_mm.copy()
    leaves[1, 0] = 0.0
    fluence = fluence_mu(replace(beam, leaves_mm=leaves), FieldLattice(20, 20), 0.0)
    assert fluence[20, 15] == pytest.approx(5.0) and fluence[20, 25] == pytest.approx(10.0)


def test_output_grows_with_the_field_as_the_kernels_have_it(model: KernelModel) -> None:
    """Scatter of the phantom alone: what the head adds is not modelled."""
    doses = {
        edge: at(
            plan_dose(
                [field((-edge / 2, edge / 2), (-edge / 2, edge / 2))], water(), model, MACHINE
            ),
            0,
            0,
        )
        for edge in (50.0, 100.0, 200.0)
    }
    assert 0.85 < doses[50.0] / doses[100.0] < 0.97
    assert 1.03 < doses[200.0] / doses[100.0] < 1.15


def test_pyradplans_own_engine_gives_an_open_field_the_same_dose(model: KernelModel) -> None:
    """Every element of its matrix at 1, against the convolved open field, at two angles."""
    anatomy = water(radius_mm=80.0, edge=41)
    z, y, x = np.indices(anatomy.grid.shape) * SPACING + anatomy.grid.origin[0]
    target = (np.abs(z) <= 20) & (np.hypot(x, y) <= 20)
    grid = anatomy.grid
    ct, structures = engine.patient_of(replace(anatomy, targets={"target": target}))
    setup = engine.Setup([0.0, 40.0], 10.0, SPACING, 150.0, (0.0, 0.0, 0.0), (0.0, 5.0))
    with engine.quiet():
        plan, beams = engine.set_up(ct, structures, setup)
        matrix = engine.influence_matrix(ct, structures, plan, beams).physical_dose.flat[0]
    start = 0
    for angle, places in zip((0.0, 40.0), engine.element_positions(beams), strict=True):
        stop = start + len(places)
        theirs = np.asarray(matrix[:, start:stop].sum(axis=1)).reshape(grid.shape)
        start = stop
        low, high = places.min(axis=0) - 5, places.max(axis=0) + 5
        assert len(places) == np.prod((high - low) / 10)  # the field is a rectangle
        beam = field((low[0], high[0]), (low[1], high[1]), gantry=angle, mu=1.0)
        ours = plan_dose([beam], anatomy, model, NO_LEAKAGE).array / model.gy_per_mu(
            MACHINE.calibration
        )
        inside = theirs > 0.5 * theirs.max()
        apart = (ours - theirs)[inside] / theirs.max()
        assert abs(np.median(apart)) < 0.005
        # Edges of the field and of the cylinder: both engines count whole voxels, each its own way.
        assert np.all(np.abs(np.percentile(apart, [10, 90])) < 0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"meterset": None}, "has no monitor units"),
        ({"isocenter_mm": None}, "has no isocenter"),
        ({"leaves_along": "Y"}, "has no leaves along X"),
        ({"gantry_degrees": np.linspace(0, 90, 2)}, "turns the gantry"),
        ({"couch_degrees": np.full(2, 10.0)}, "turns the couch"),
    ],
)
def test_what_is_not_modelled_is_refused(model: KernelModel, change: dict, words: str) -> None:
    with pytest.raises(CaseError, match=words):
        plan_dose([replace(field((-50, 50)), **change)], water(), model, MACHINE)
