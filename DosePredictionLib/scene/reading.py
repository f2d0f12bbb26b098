"""Nodes → `Case`, with every transform honored; what is wrong with the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..case import Case, Prescription
from ..errors import CaseError, GeometryError
from ..findings import Finding
from ..io.dose_grid import dose_gaps
from ..mask import Mask
from ..volume import Grid, Volume
from .changes import Content, Fingerprint, contents
from .geometry import (
    Frame,
    array_of_image,
    case_frame,
    general_to_world,
    grid_in,
    image_size,
    index_to_ras,
    is_rigid,
    linear_to_world,
    on_straight_grid,
    resliced,
)
from .resampling import resampled_in_slabs
from .segments import SegmentReader
from .steps import Step, Steps, finish

__all__ = [
    "SceneCase",
    "SegmentInfo",
    "case_from_nodes",
    "case_steps",
    "input_findings",
    "list_segments",
]


@dataclass(frozen=True)
class SegmentInfo:
    """A segment as the segmentation has it; color "#rrggbb"."""

    id: str
    name: str
    color: str


@dataclass(frozen=True, eq=False)
class SceneCase:
    """A case and where it came from.

    Args:
        case: structures carry the segments' names; the CT's voxels are the node's own memory.
        ct_id, segmentation_id, plan_dose_id: node IDs.
        segments: of the case's structures, by name.
        volumes_cc: of each structure, by name.
        frame: the case's coordinates in the scene.
        is_hardened: whether the CT's transform had to be applied to a copy of it; the case's grid
            is then not the CT node's.
        fingerprint: of the inputs, for `what_changed`.
    """

    case: Case
    ct_id: str
    segmentation_id: str
    plan_dose_id: str | None
    segments: Mapping[str, SegmentInfo]
    volumes_cc: Mapping[str, float]
    frame: Frame
    is_hardened: bool
    fingerprint: Fingerprint


def input_findings(ct: Any, segmentation: Any, plan_dose: Any = None) -> list[Finding]:
    """What is wrong with the inputs, seen without reading voxels; blocking ones stop `case_steps`.

    Ids: `ct-missing`, `ct-is-labelmap`, `ct-one-slice`, `segmentation-missing`,
    `segmentation-empty`, `segment-names-equal`, `segmentation-apart`, `plan-dose-missing`,
    `plan-dose-is-ct`, `plan-dose-apart`.
    """
    findings = [*_ct_findings(ct), *_segmentation_findings(segmentation)]
    if not findings and not _share_space(ct, segmentation):
        findings.append(
            _blocking(
                "segmentation-apart",
                f"{segmentation.GetName()} does not overlap the CT {ct.GetName()}: they are of "
                "different patients, or a transform is missing or applied twice.",
                "Choose the segmentation of this CT, or put both under the same transform.",
            )
        )
    return findings + _plan_findings(plan_dose, ct, bool(findings))


def _ct_findings(ct: Any) -> list[Finding]:
    if ct is None:
        return [_blocking("ct-missing", "No CT is chosen.", "Choose the planning CT.")]
    name = ct.GetName()
    if ct.GetScene() is None:
        message = f"The CT {name} has been removed from the scene."
        return [_blocking("ct-missing", message, "Choose another CT.")]
    if ct.GetImageData() is None or min(image_size(ct.GetImageData())) < 1:
        message = f"The CT {name} holds no voxels."
        return [_blocking("ct-missing", message, "Load it again, or choose another.")]
    if ct.IsA("vtkMRMLLabelMapVolumeNode"):
        message = f"{name} is a labelmap, not a CT."
        remedy = "Choose the CT it was drawn on; import the labelmap as a segmentation."
        return [_blocking("ct-is-labelmap", message, remedy)]
    if ct.GetImageData().GetNumberOfScalarComponents() != 1:
        message = f"{name} has several values a voxel (a color image): it is no CT."
        return [_blocking("ct-is-labelmap", message, "Choose the CT.")]
    if min(image_size(ct.GetImageData())) < 2:
        size = "×".join(map(str, image_size(ct.GetImageData())))
        message = f"The CT {name} has {size} voxels: a dose needs more than one slice."
        remedy = "Load the whole series, not one of its files."
        return [_blocking("ct-one-slice", message, remedy)]
    return []


def _segmentation_findings(segmentation: Any) -> list[Finding]:
    if segmentation is None:
        message, remedy = "No segmentation is chosen.", "Choose the structures of this CT."
        return [_blocking("segmentation-missing", message, remedy)]
    name = segmentation.GetName()
    if segmentation.GetScene() is None:
        message = f"The segmentation {name} has been removed from the scene."
        return [_blocking("segmentation-missing", message, "Choose another one.")]
    infos = list_segments(segmentation)
    if not infos:
        message = f"{name} has no segments."
        remedy = "Choose another segmentation, or draw the target and the organs."
        return [_blocking("segmentation-empty", message, remedy)]
    names = [info.name for info in infos]
    findings = []
    for twice in dict.fromkeys(n for n in names if names.count(n) > 1):
        ids = ", ".join(info.id for info in infos if info.name == twice)
        message = f"{names.count(twice)} segments of {name} are called {twice!r} (IDs {ids})."
        findings.append(
            _blocking("segment-names-equal", message, "Rename all but one, or remove them.", twice)
        )
    return findings


def _plan_findings(plan_dose: Any, ct: Any, ct_is_wrong: bool) -> list[Finding]:
    if plan_dose is None:
        return []
    name = plan_dose.GetName()
    if plan_dose.GetScene() is None or plan_dose.GetImageData() is None:
        message = f"The plan dose {name} has been removed from the scene, or holds no voxels."
        return [_blocking("plan-dose-missing", message, "Choose another one, or none.")]
    if plan_dose is ct:
        message = f"{name} is chosen as CT and as plan dose."
        return [_blocking("plan-dose-is-ct", message, "Choose the dose volume, or none.")]
    if not ct_is_wrong and not _share_space(ct, plan_dose):
        message = f"The plan dose {name} does not overlap the CT {ct.GetName()}."
        remedy = "Choose the dose of this CT, or put both under the same transform."
        return [_blocking("plan-dose-apart", message, remedy)]
    return []


def _blocking(rule: str, message: str, remedy: str, structure: str | None = None) -> Finding:
    return Finding(rule, "blocking", message, remedy, structure)


def _share_space(ct: Any, other: Any) -> bool:
    """Whether the bounding boxes of two nodes overlap in the world; true where one has none."""
    boxes = []
    for node in (ct, other):
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        low, high = np.reshape(bounds, (3, 2)).T
        if np.any(low > high):
            return True  # nothing in it, which is another matter
        boxes.append((low, high))
    (low, high), (other_low, other_high) = boxes
    return bool(np.all(low < other_high) and np.all(other_low < high))


def list_segments(segmentation: Any) -> list[SegmentInfo]:
    """The segments in their order; cheap, reads no voxels. One without a name has its ID's."""
    content = segmentation.GetSegmentation()
    infos = []
    for segment_id in content.GetSegmentIDs():
        segment = content.GetSegment(segment_id)
        color = "#" + "".join(f"{round(255 * share):02x}" for share in segment.GetColor())
        infos.append(SegmentInfo(segment_id, segment.GetName() or segment_id, color))
    return infos


def case_steps(
    ct: Any,
    segmentation: Any,
    plan_dose: Any = None,
    prescription: Prescription | None = None,
    *,
    name: str = "",
    before: SceneCase | None = None,
) -> Steps[SceneCase]:
    """Read a case, a node or a segment a step; the generator returns a `SceneCase`.

    Voxels go through world coordinates, so every transform counts; see `geometry.case_frame` for
    the case's own. The nodes stay as they are.

    Args:
        ct: vtkMRMLScalarVolumeNode, HU.
        segmentation: vtkMRMLSegmentationNode.
        plan_dose: vtkMRMLScalarVolumeNode, Gy.
        prescription: dose per target, by the segments' names or the channels'.
        name: of the case; empty: the CT node's name.
        before: an earlier reading; what has not changed since is taken from it, the same volumes.

    Raises:
        CaseError: an input is missing, unfit or removed meanwhile; cause and remedy in one line.
        GeometryError: the CT's axes are sheared.
    """
    for finding in input_findings(ct, segmentation, plan_dose):
        if finding.severity == "blocking":
            raise CaseError(f"{finding.message} {finding.remedy}")
    infos = list_segments(segmentation)
    earlier = _Earlier.of(before, ct, segmentation, plan_dose)
    work = _Reading(ct, segmentation, plan_dose, len(infos) + (3 if plan_dose else 2), earlier)
    for what, content in contents(ct, segmentation, plan_dose, earlier.fingerprint):
        earlier.entries[what] = content
        yield work.step("Comparing the inputs")
    volume = work.read_ct()
    yield work.step(f"Reading {ct.GetName()}", done=True)
    structures: dict[str, Mask] = {}
    volumes_cc = {}
    for info in infos:
        for part in work.read_segment(info):
            if part is not None:
                structures[info.name] = part
                volumes_cc[info.name] = float(part.block.sum(dtype=float)) * (
                    part.grid.voxel_volume_cc
                )
            yield work.step(f"Reading {info.name}", done=part is not None)
    work.require_overlap(volumes_cc)
    dose = None
    if plan_dose is not None:
        for dose in work.read_dose():
            yield work.step(f"Reading {plan_dose.GetName()}", done=dose is not None)
        for structure, mask in structures.items():
            work.note_gap(structure, mask)
            yield work.step(f"Comparing {plan_dose.GetName()} with {structure}")
    case = Case(
        name=name or ct.GetName(),
        ct=volume,
        structures=structures,
        plan_dose=dose,
        prescription=prescription,
        findings=tuple(work.findings),
    )
    return SceneCase(
        case=case,
        ct_id=ct.GetID(),
        segmentation_id=segmentation.GetID(),
        plan_dose_id=plan_dose.GetID() if plan_dose is not None else None,
        segments={info.name: info for info in infos if info.name in case.structures},
        volumes_cc={key: cc for key, cc in volumes_cc.items() if key in case.structures},
        frame=work.frame,
        is_hardened=work.is_hardened,
        fingerprint=Fingerprint(earlier.entries),
    )


@dataclass(frozen=True, eq=False)
class _Earlier:
    """What an earlier reading of the same nodes holds that has not changed since.

    Args:
        source: that reading; None: there is none.
        entries: of the fingerprint as it is now; complete before anything is read.
    """

    source: SceneCase | None
    entries: dict[str, Content] = field(default_factory=dict)

    @classmethod
    def of(cls, source: SceneCase | None, ct: Any, segmentation: Any, plan: Any) -> _Earlier:
        """Of these nodes, or of none."""
        plan_id = None if plan is None else plan.GetID()
        now = (ct.GetID(), segmentation.GetID(), plan_id)
        if source is not None:
            then = (source.ct_id, source.segmentation_id, source.plan_dose_id)
            source = source if now == then else None
        return cls(source)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """As it was."""
        return None if self.source is None else self.source.fingerprint

    def case(self, grid: Grid, *unchanged: str) -> Case | None:
        """The case as it was, on the same grid; None if one of these inputs has changed."""
        if self.source is None or self.source.case.grid != grid:
            return None
        then, now = self.source.fingerprint.entries, self.entries
        names = ("place of CT", *unchanged)
        is_same = all(name in then and then[name][1] == now[name][1] for name in names)
        return self.source.case if is_same else None

    def mask(self, grid: Grid, segment: SegmentInfo) -> Mask | None:
        """A segment's mask, under whatever name; None if it has changed."""
        case = self.case(grid, "place of segmentation", f"segment:{segment.id}")
        if case is None or self.source is None:
            return None
        names = {info.id: name for name, info in self.source.segments.items()}
        return case.structures.get(names.get(segment.id, ""))


class _Reading:
    """One case being read: the frame, what was noticed, and how far it is."""

    def __init__(
        self, ct: Any, segmentation: Any, plan_dose: Any, total: int, earlier: _Earlier
    ) -> None:
        self._ct, self._segmentation, self._plan_dose = ct, segmentation, plan_dose
        self._done, self._total = 0, total
        self._earlier = earlier
        self.frame = case_frame(ct)
        self.findings: list[Finding] = []
        self.is_hardened = False
        self._dose_grid: Grid | None = None

    def step(self, label: str, done: bool = False) -> Step:
        self._done += done
        return Step(label, self._done, self._total)

    def read_ct(self) -> Volume:
        """The CT; as it is wherever possible."""
        image, transform = self._ct.GetImageData(), linear_to_world(self._ct)
        if transform is not None and is_rigid(transform):
            try:
                grid = grid_in(self.frame, self._ct, index_to_ras(self._ct), image_size(image))
            except GeometryError as error:
                raise GeometryError(
                    f"The CT {self._ct.GetName()}: {error} (Resample Scalar/Vector/DWI Volume)."
                ) from error
            same = self._earlier.case(grid, "CT")
            volume = Volume(array_of_image(image), grid) if same is None else same.ct
        else:
            volume, grid = on_straight_grid(self._ct)
            self.is_hardened = True
            kind = "warps" if transform is None else "scales, shears or mirrors"
            message = (
                f"The CT {self._ct.GetName()} lies under a transform that {kind} it: a copy was "
                f"resampled to {grid}. The dose lies on that grid."
            )
            self.findings.append(Finding("ct-hardened", "info", message))
        self._grid = grid
        self._reader = SegmentReader(self._segmentation, self.frame, grid)
        return volume

    def read_segment(self, info: SegmentInfo) -> Iterator[Mask | None]:
        """See `SegmentReader.read`; notes what was resampled."""
        self._require_nodes()
        same = self._earlier.mask(self._grid, info)
        for part in self._reader.read(info.id) if same is None else [same]:
            self._require_nodes()
            if part is not None and part.block.dtype != bool:
                message = f"{info.name} was brought onto the CT's voxels ({self._grid})."
                self.findings.append(
                    Finding("structure-resampled", "info", message, structure=info.name)
                )
            yield part

    def read_dose(self) -> Iterator[Volume | None]:
        """The plan dose on the CT's grid; None between steps."""
        self._require_nodes()
        node = self._plan_dose
        image, local = node.GetImageData(), index_to_ras(node)
        try:
            self._dose_grid = grid_in(self.frame, node, local, image_size(image))
        except GeometryError:
            to_world = general_to_world(node)
            array = resliced(image, local, to_world, self._grid, self.frame, 0.0)
            self._note_dose(f"{node.GetName()} lies under a transform that warps it")
            yield Volume(array.astype(np.float32, copy=False), self._grid)
            return
        same = self._earlier.case(self._grid, "plan dose", "place of plan dose")
        stored = Volume(array_of_image(image), self._dose_grid)
        is_on_grid = stored.grid.matches(self._grid)
        if not is_on_grid:
            self._note_dose(f"The plan dose {node.GetName()} ({stored.grid})")
        if same is not None:
            yield same.plan_dose
        elif is_on_grid:
            yield Volume(stored.array.astype(np.float32, copy=False), self._grid)
        else:
            yield from resampled_in_slabs(stored, self._grid, "linear")

    def _note_dose(self, what: str) -> None:
        message = f"{what} was resampled linearly onto the CT's grid ({self._grid})."
        self.findings.append(Finding("dose-resampled", "info", message))

    def note_gap(self, structure: str, mask: Mask) -> None:
        """Note a structure of which the plan dose covers less than 99 %."""
        if self._dose_grid is None:
            return
        label = self._plan_dose.GetName()
        self.findings += dose_gaps(self._dose_grid, self._grid, {structure: mask}, label)

    def require_overlap(self, volumes_cc: Mapping[str, float]) -> None:
        """Refuse a segmentation of which nothing lies in the CT.

        Raises:
            CaseError: all segments are empty there.
        """
        if not any(volumes_cc.values()):
            raise CaseError(
                f"No segment of {self._segmentation.GetName()} lies in the CT {self._ct.GetName()}"
                ": they are empty, of another patient, or under another transform. Choose the "
                "segmentation of this CT."
            )

    def _require_nodes(self) -> None:
        for node in (self._ct, self._segmentation, self._plan_dose):
            if node is not None and node.GetScene() is None:
                raise CaseError(
                    f"{node.GetName()} was removed from the scene while it was read. Choose the "
                    "inputs again."
                )


def case_from_nodes(
    ct: Any,
    segmentation: Any,
    plan_dose: Any = None,
    prescription: Prescription | None = None,
    *,
    name: str = "",
) -> SceneCase:
    """Read a case at once; see `case_steps`."""
    return finish(case_steps(ct, segmentation, plan_dose, prescription, name=name))
