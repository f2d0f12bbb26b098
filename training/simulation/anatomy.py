"""The pelvis of one simulated patient, as shapes.

The origin lies midway between the centers of the femoral heads; x to the left, y to the back, z to
the head, mm. Positions are those of an average adult; the patient's scale, tilt and a smooth
deformation change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from .population import Patient
from .shapes import (
    Array,
    Cut,
    Ellipsoid,
    Floats,
    Mirrored,
    Points,
    Shape,
    Sheet,
    Tube,
    Union,
    smooth_minimum,
)

__all__ = ["Anatomy", "Trunk", "build_anatomy"]

_MIRROR = np.array([-1.0, 1.0, 1.0])
_TRUNK_Y = 10.0  # mm that the middle of the trunk lies behind the femoral heads


@dataclass(frozen=True, eq=False)
class Trunk:
    """Skin of hips, belly and thighs.

    Args:
        half_width_mm, half_depth_mm: at the hips, without what follows.
        belly_mm: what the abdomen stands out.
        waist: width of the waist over that of the hips.
        couch_y_mm: where the back is flattened by the table.
    """

    half_width_mm: float
    half_depth_mm: float
    belly_mm: float
    waist: float
    couch_y_mm: float

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Nothing is left out: the skin is rendered over the whole grid."""
        return np.full(3, -1e4), np.full(3, 1e4)

    def distance(self, points: Points) -> Array:
        """Distance to the skin, good to a few percent near it."""
        x, y, z = points[0], points[1] - np.float32(_TRUNK_Y), points[2]
        rise = np.clip(z / np.float32(150), 0, 1)
        rise = rise * rise * (3 - 2 * rise)
        width = np.float32(self.half_width_mm) * (1 - np.float32(1 - self.waist) * rise)
        depth = np.float32(self.half_depth_mm) * (1 - np.float32(0.10) * rise)
        front = depth + np.float32(self.belly_mm) * rise
        half = np.where(y < 0, front, depth)
        u, v = np.abs(x) / width, np.abs(y) / half
        level = (u**2.4 + v**2.4) ** np.float32(1 / 2.4)
        steep = np.sqrt((u**1.4 / width) ** 2 + (v**1.4 / half) ** 2) / np.maximum(
            level, 0.05
        ) ** np.float32(1.4)
        trunk = (level - 1) / np.maximum(steep, 1e-5)
        trunk = np.maximum(trunk, np.float32(-72) - z)
        round_back = smooth_minimum(trunk, self._thighs((x, y, z)), 18.0)
        # The table presses the back flat.
        pressed = smooth_minimum(-round_back, np.float32(self.couch_y_mm) - points[1], 14.0)
        distance: Array = -pressed
        return distance

    def _thighs(self, points: Points) -> Array:
        x, y, z = points
        fall = np.clip(-z / np.float32(140), 0, 1)
        radius = np.float32(0.50 * self.half_width_mm) * (1 - np.float32(0.12) * fall)
        center = np.float32(0.5 * self.half_width_mm + 1.0)
        scale = np.float32(self.half_depth_mm / (0.56 * self.half_width_mm))
        across = np.sqrt((np.abs(x) - center) ** 2 + (y / np.maximum(scale, 1)) ** 2)
        thighs: Array = np.maximum(across - radius, z - np.float32(40))
        return thighs


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Every shape of a patient, by name."""

    trunk: Trunk
    fat_mm: float
    bones: dict[str, Shape]
    organs: dict[str, Shape]
    muscles: Shape
    cavity: Shape
    vessels: Shape
    bowel_gas: Shape
    rectum_gas: Shape | None
    femur_heads: dict[str, Shape]
    canal: Shape


def build_anatomy(patient: Patient) -> Anatomy:
    """Shapes from a patient's measures."""
    rng = np.random.default_rng((patient.seed, 2))
    frame = _Frame(patient.scale, patient.pelvic_tilt_deg)
    bones, heads = _bones(patient, frame)
    organs, bowel_gas, rectum_gas = _organs(patient, frame, rng)
    hips_mm = 150 * patient.scale + 12 + patient.fat_mm
    depth_mm = 100 * patient.scale + 0.5 * patient.fat_mm
    trunk = Trunk(
        half_width_mm=hips_mm,
        half_depth_mm=depth_mm,
        belly_mm=patient.belly_mm,
        waist=float(rng.uniform(0.84, 0.97)),
        couch_y_mm=_TRUNK_Y + depth_mm - 0.18 * patient.fat_mm - 3,
    )
    return Anatomy(
        trunk=trunk,
        fat_mm=patient.fat_mm,
        bones=bones,
        organs=organs,
        muscles=_muscles(frame),
        cavity=_cavity(frame),
        vessels=_vessels(frame),
        bowel_gas=bowel_gas,
        rectum_gas=rectum_gas,
        femur_heads=heads,
        canal=_canal(frame),
    )


@dataclass(frozen=True)
class _Frame:
    """From positions in the average skeleton to the patient's."""

    scale: float
    tilt_deg: float

    def __call__(self, *points: Sequence[float] | Floats) -> Floats:
        angle = np.deg2rad(self.tilt_deg)
        x, y, z = np.asarray(points, dtype=float).T * self.scale
        turned_y = np.cos(angle) * y + np.sin(angle) * z
        turned_z = -np.sin(angle) * y + np.cos(angle) * z
        return np.stack([x, turned_y, turned_z], axis=1)

    def one(self, *point: float) -> Floats:
        position: Floats = self(point)[0]
        return position

    def ellipsoid(
        self, center: Sequence[float], radii: Sequence[float], tilt: float = 0.0, power: float = 2.0
    ) -> Ellipsoid:
        return Ellipsoid(
            self.one(*center), np.asarray(radii) * self.scale, tilt + self.tilt_deg, power
        )

    def tube(
        self, points: Sequence[Sequence[float]] | Floats, radius: float | Sequence[float]
    ) -> Tube:
        return Tube(self(*points), np.asarray(radius) * self.scale)


def _both(make: Tube | Ellipsoid) -> list[Shape]:
    """A shape of the left side and its mirror image."""
    if isinstance(make, Tube):
        line = np.atleast_2d(np.asarray(make.line)) * _MIRROR
        return [make, Tube(line, make.radius, make.flatten)]
    return [
        make,
        Ellipsoid(np.asarray(make.center) * _MIRROR, make.radii, make.tilt_deg, make.power),
    ]


def _bones(patient: Patient, frame: _Frame) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Bones by name, and the femoral heads of both sides."""
    wide = 1.0 if patient.sex == "male" else 1.05
    hip = 88.0 * wide
    head = frame.one(hip, 0, 0)
    femur, contoured = _femur(patient, frame, head)
    left: dict[str, Shape] = {
        "femur": femur,
        "hip": _hip_bone(frame, wide, hip, head, patient.femoral_head_radius_mm),
    }
    bones: dict[str, Shape] = {f"{name}_left": shape for name, shape in left.items()}
    bones |= {f"{name}_right": Mirrored(shape) for name, shape in left.items()}
    bones["sacrum"] = _sacrum(frame, wide)
    bones["spine"] = _spine(frame)
    return bones, {"FemurHead_L": contoured, "FemurHead_R": Mirrored(contoured)}


def _femur(patient: Patient, frame: _Frame, head: Floats) -> tuple[Shape, Shape]:
    """The left femur, and its head as it is contoured, which ends where the neck begins."""
    radius = patient.femoral_head_radius_mm
    turn = np.deg2rad(patient.leg_turn_deg)
    neck = head + frame.scale * np.array([34 * np.cos(turn), 34 * np.sin(turn), -22])
    trochanter = head + frame.scale * np.array([56 * np.cos(turn), 56 * np.sin(turn) + 3, -22])
    shaft = trochanter + frame.scale * np.array([-4, 2, -38])
    knee = trochanter + frame.scale * np.array([-26, 0, -190])
    ball = Ellipsoid(head, (radius, radius, radius))
    femur = Union(
        [
            ball,
            Tube([head, neck, trochanter], [0.72 * radius, 0.62 * radius, 0.85 * radius]),
            Tube([trochanter, shaft, knee], [0.85 * radius, 0.72 * radius, 0.6 * radius]),
            Ellipsoid(np.add(trochanter, [2, 2, 8]), (0.7 * radius, 0.8 * radius, 22)),
        ],
        6.0,
    )
    return femur, Union([ball, Tube([head, (head + neck) / 2], 0.75 * radius)], 4.0)


def _hip_bone(frame: _Frame, wide: float, hip: float, head: Floats, radius: float) -> Shape:
    """The left hip bone with its socket, around a femoral head of a radius."""
    socket = Cut(
        Ellipsoid(np.add(head, [-3, 0, 4]), (radius + 13, radius + 13, radius + 14)),
        Union(
            [
                Ellipsoid(head, (radius + 3.5,) * 3),
                Tube([head, np.add(head, [70, 0, -52])], [radius + 3.5, radius + 28]),
            ]
        ),
        outside=True,
    )
    return Union(
        [
            socket,
            _ilium(frame, wide),
            frame.tube(  # superior ramus of the pubis
                [(hip - 22, -16, 4), (45, -44, 6), (10, -58, -4)], [14, 9, 11]
            ),
            frame.tube(  # body of the ischium, down to the tuberosity
                [(hip - 14, 22, -6), (72, 36, -32), (58, 36, -62)], [17, 14, 15]
            ),
            frame.tube([(57, 32, -66), (34, -14, -54), (12, -48, -28)], [12, 7.5, 9]),
        ],
        9.0,
    )


def _ilium(frame: _Frame, wide: float) -> Shape:
    """The wing of the ilium: a bowl between its root at the acetabulum and the crest."""
    crest = np.array(
        [
            (116, -58, 62),
            (132, -50, 98),
            (138, -22, 130),
            (128, 14, 144),
            (100, 46, 138),
            (70, 70, 118),
            (54, 80, 92),
            (56, 72, 66),
        ],
        dtype=float,
    )
    root = np.array(
        [
            (98, -36, 30),
            (96, -30, 32),
            (94, -20, 34),
            (90, -6, 36),
            (86, 10, 38),
            (80, 26, 40),
            (76, 34, 40),
            (72, 40, 38),
        ],
        dtype=float,
    )
    along = np.linspace(0, len(crest) - 1, 48)
    knots = np.arange(len(crest))
    edge, base = (PchipInterpolator(knots, line)(along) for line in (crest, root))
    up = np.linspace(0, 1, 36)[:, None, None]
    surface = (1 - up) * base + up * edge
    # The bowl is hollow toward the abdomen: its middle lies further out.
    surface += np.sin(np.pi * up) * np.array([5.0, 4.0, -3.0])
    thickness = (
        4.2 + 3.6 * (2 * np.abs(up - 0.45)) ** 2 + 3.0 * np.linspace(0, 1, 48)[None, :, None] ** 3
    )
    samples = frame(*(surface.reshape(-1, 3) * [wide, 1, 1]))
    plate = Sheet(samples, (thickness * frame.scale).reshape(-1))
    root_block = frame.tube(
        [(88 * wide, -22, 28), (86 * wide, 6, 30), (72 * wide, 38, 40)], [15, 17, 15]
    )
    joint = frame.tube([(58, 74, 108), (48, 74, 80), (62, 52, 52), (78, 30, 38)], [11, 12, 13, 13])
    return Union([plate, root_block, joint], 8.0)


def _sacrum(frame: _Frame, wide: float) -> Shape:
    """Sacrum with its wings, and the coccyx."""
    body = frame.tube(
        [(0, 36, 104), (0, 58, 78), (0, 78, 48), (0, 86, 18), (0, 80, -6), (0, 68, -22)],
        [25, 22, 17, 12, 8, 5],
    )
    wings = [
        shape
        for point, radius in (((40, 56, 92), 18), ((36, 70, 66), 15), ((24, 82, 38), 11))
        for shape in _both(
            frame.tube([(0, point[1], point[2] + 2), (point[0] * wide, *point[1:])], [18, radius])
        )
    ]
    crest = frame.tube([(0, 72, 108), (0, 92, 72), (0, 102, 36)], [12, 10, 8])
    return Union([body, *wings, crest], 10.0)


def _spine(frame: _Frame) -> Shape:
    """The lumbar vertebrae that are in the picture."""
    shapes: list[Shape] = []
    for level, (y, z) in enumerate([(22, 134), (12, 172), (8, 210)]):
        shapes.append(frame.ellipsoid((0, y, z), (27, 20, 15), -12 + 6 * level, power=3.5))
        shapes.append(frame.tube([(0, y + 44, z - 6), (0, y + 62, z - 12)], [9, 6]))
        shapes += _both(frame.tube([(14, y + 18, z), (16, y + 34, z - 4), (0, y + 46, z - 6)], 6.5))
        shapes += _both(frame.tube([(14, y + 24, z), (40, y + 28, z)], [6, 4.5]))
    return Union(shapes, 4.0)


def _canal(frame: _Frame) -> Shape:
    """Spinal canal with the cauda equina, down to the second sacral segment."""
    line = [(0, 40, 230), (0, 44, 172), (0, 56, 134), (0, 66, 106), (0, 80, 74)]
    return frame.tube(line, [9, 9, 9.5, 9, 6])


def _organs(
    patient: Patient, frame: _Frame, rng: np.random.Generator
) -> tuple[dict[str, Shape], Shape, Shape | None]:
    bladder, top = _bladder(patient, frame)
    rectum, gas = _rectum(patient, frame, rng)
    organs: dict[str, Shape] = {"Bladder": bladder, "Rectum": rectum}
    if patient.sex == "male":
        if patient.site != "prostate_bed":
            radius = float(rng.uniform(18, 27))
            organs["Prostate"] = frame.ellipsoid(
                (0, -2, -16), (1.1 * radius, 0.85 * radius, radius)
            )
        organs["SeminalVesicles"] = Union(
            _both(frame.tube([(5, 18, 2), (26, 24, 12)], [6, 7.5])), 4.0
        )
    else:
        if patient.site != "endometrium":
            lift = min(1.0, top / 90)
            organs["Uterus"] = Union(
                [
                    frame.ellipsoid(
                        (0, 2 + 10 * lift, 50 + 18 * lift), (26, 21, 33), -40 + 30 * lift
                    ),
                    frame.ellipsoid((0, 22, 20), (15, 14, 18), -10),
                ],
                10.0,
            )
        organs["Vagina"] = Tube(
            frame((0, 22, 12), (0, 16, -20), (0, 4, -54)), 9.0 * frame.scale, (0.6, 1.3, 1.0)
        )
    bowel, bowel_gas = _bowel(frame, rng, top)
    organs["Small_Intestine"] = bowel
    organs["Sigmoid"] = frame.tube(
        [(4, 50, 84), (22, 34, 92), (52, 26, 84), (78, 14, 100), (88, 4, 132), (92, 2, 190)],
        [14, 13, 13, 14, 16, 17],
    )
    return organs, bowel_gas, gas


def _bladder(patient: Patient, frame: _Frame) -> tuple[Shape, float]:
    """The bladder rests on the pelvic floor and grows upward; also the height of its top."""
    radius = (patient.bladder_cc * 750 / np.pi) ** (1 / 3)
    tall, wide = radius * 0.92, radius * 1.12
    deep = radius**3 / (tall * wide)
    bottom = frame.one(0, -30, 2)
    center = np.add(bottom, [0, -0.02 * deep, tall])
    center[1] = min(center[1], bottom[1] + 4)
    shape = Ellipsoid(center, (wide, deep, tall), 14, power=2.3)
    return shape, float(center[2] + tall)


def _rectum(
    patient: Patient, frame: _Frame, rng: np.random.Generator
) -> tuple[Shape, Shape | None]:
    """Anal canal to rectosigmoid along the sacrum, and its gas."""
    middle = frame(
        (0, 22, -62), (0, 34, -44), (0, 48, -22), (0, 56, 4), (0, 58, 30), (2, 54, 56), (4, 50, 84)
    )
    filling = np.array([0.72, 0.8, 1.1, 1.2, 1.1, 0.95, 0.85]) * np.exp(rng.normal(0, 0.1, 7))
    radius = patient.rectum_radius_mm * filling
    # A full rectum pushes to the front; its back rests on the sacrum.
    middle[:, 1] -= np.clip(radius - 15, 0, None) * 0.8
    line, radii = _smooth_line(middle, radius, 24)
    if patient.rectum_gas <= 0.05:
        return Tube(line, radii), None
    count = max(2, round(patient.rectum_gas * len(line)))
    first = int(rng.integers(4, max(5, len(line) - count)))
    inside = slice(first, first + count)
    gas = Tube(line[inside] - [0, 2, 0], np.maximum(radii[inside] - 4.5, 3.0))
    return Tube(line, radii), gas


def _bowel(frame: _Frame, rng: np.random.Generator, bladder_top: float) -> tuple[Shape, Shape]:
    """Loops in the abdomen above the bladder, and the gas in some of them."""
    low = max(48 * frame.scale, min(bladder_top - 18, 96.0))
    loops: list[Tube] = []
    gas: list[Tube] = []
    for _ in range(int(rng.integers(9, 13))):
        start = np.array([rng.uniform(-62, 62), rng.uniform(-52, 2), rng.uniform(low, 190)])
        nodes = [start]
        heading = rng.normal(size=3)
        for _ in range(int(rng.integers(5, 9))):
            heading = 0.55 * heading / np.linalg.norm(heading) + rng.normal(0, 0.6, 3)
            step = nodes[-1] + 24 * heading / np.linalg.norm(heading)
            nodes.append(np.clip(step, [-74, -62, low], [70, 12, 205]))
        radius = np.clip(rng.normal(12.0, 1.8, len(nodes)), 8.5, 16)
        line, radii = _smooth_line(np.array(nodes), radius, 3 * len(nodes))
        loops.append(Tube(line, radii))
        if rng.random() < 0.5:
            at = int(rng.integers(0, len(line) - 4))
            gas.append(Tube(line[at : at + 4] - [0, 3, 0], radii[at : at + 4] - 4.5))
    if not gas:
        gas.append(Tube(np.asarray(loops[0].line)[:3], 5.0))
    return Union(loops), Union(gas)


def _smooth_line(nodes: Floats, radius: Floats, count: int) -> tuple[Floats, Floats]:
    """A cubic through nodes and radii."""
    at = np.arange(len(nodes))
    fine = np.linspace(0, len(nodes) - 1, count)
    return PchipInterpolator(at, nodes)(fine), PchipInterpolator(at, radius)(fine)


def _vessels(frame: _Frame) -> Shape:
    """Aorta and vena cava, common, external and internal iliac arteries and veins."""
    shapes: list[Shape] = [
        frame.tube([(8, -8, 230), (6, 2, 160)], 9),
        frame.tube([(-14, 0, 230), (-12, 8, 150)], 10),
    ]
    external = [
        (6, 0, 160),
        (28, 14, 118),
        (46, 2, 84),
        (60, -24, 48),
        (62, -56, 8),
        (64, -62, -40),
    ]
    internal = [(32, 16, 112), (42, 40, 84), (50, 52, 54), (46, 46, 28)]
    for line, radius, offset in (
        (external, 6.0, (0, 0, 0)),
        (external, 7.0, (-5, 13, 0)),
        (internal, 4.5, (0, 0, 0)),
        (internal, 5.5, (-4, 9, 0)),
    ):
        shapes += _both(frame.tube(np.add(line, offset), radius))
    return Union(shapes, 2.0)


def _muscles(frame: _Frame) -> Shape:
    """Muscles that lie in the pelvic fat: iliopsoas, obturator internus, piriformis, levator."""
    shapes: list[Shape] = []
    for make in (
        frame.tube(
            [
                (34, 20, 210),
                (46, 10, 150),
                (66, -14, 92),
                (82, -32, 40),
                (84, -34, 4),
                (92, -20, -40),
            ],
            [22, 24, 26, 22, 18, 14],
        ),
        frame.tube([(104, -14, 116), (104, -20, 80), (88, -30, 40)], [22, 20, 16]),
        frame.tube([(66, -14, 26), (66, 14, 14), (62, 30, -14), (56, 20, -40)], [9, 11, 11, 9]),
        frame.tube([(26, 74, 40), (62, 66, 32), (110, 46, 18)], [9, 13, 8]),
        frame.tube([(10, 30, -54), (22, 30, -42), (46, 26, -22)], [7, 5, 4]),
    ):
        shapes += _both(make)
    shapes.append(frame.tube([(0, -8, -40), (0, 2, -60)], [11, 12]))
    return Union(shapes, 5.0)


def _cavity(frame: _Frame) -> Shape:
    """Where fat and organs lie, not muscle: the true pelvis and the abdomen above it."""
    return Union(
        [
            frame.ellipsoid((0, 16, 20), (64, 62, 68), 0, power=2.4),
            frame.ellipsoid((0, -12, 150), (104, 62, 110), 0, power=2.6),
        ],
        24.0,
    )
