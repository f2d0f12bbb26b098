"""Small cases, folders and checkpoints that tests are made of."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import nibabel
import numpy as np
import torch

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.io.openkbp import EDGE
from DosePredictionLib.models.manifest import ModelFolder
from DosePredictionLib.networks import TwoStageNetwork
from DosePredictionLib.networks.configs import TwoStageConfig
from DosePredictionLib.prediction import Output, Prediction
from DosePredictionLib.structures.mapping import map_structures
from DosePredictionLib.volume import Grid, Volume

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "Resources" / "SampleData"
OPENKBP_SAMPLE = SAMPLES / "openkbp" / "pt_235.npz"
PELVIS_SAMPLE = SAMPLES / "eclipse_rando_prostate"
DICOM_SAMPLE = SAMPLES / "eclipse_rando_prostate_dicom"

OBLIQUE = tuple(
    map(tuple, np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.2, 1, 0.15], [-0.1, -0.1, 1]]))[0])
)


def ellipsoid(grid: Grid, center_mm: tuple, radii_mm: tuple) -> np.ndarray:
    """Boolean mask `(z, y, x)` of an ellipsoid in LPS mm."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    position = grid.world_from_index(np.stack([x, y, z], axis=-1))
    return (((position - center_mm) / np.asarray(radii_mm)) ** 2).sum(axis=-1) <= 1


def pelvis_masks(grid: Grid) -> dict[str, np.ndarray]:
    """All nine channels as ellipsoids around the LPS origin."""
    shapes = {
        "PTV": ((0, 0, 0), (35, 30, 40)),
        "Bladder": ((0, -45, 5), (28, 14, 25)),
        "Rectum": ((0, 48, 0), (14, 14, 40)),
        "Small_Intestine": ((0, -20, 62), (45, 25, 18)),
        "Marrow": ((0, 62, 40), (40, 10, 20)),
        "SpinalCord": ((0, 72, 65), (8, 8, 18)),
        "FemurHead_L": ((85, 0, 0), (20, 20, 20)),
        "FemurHead_R": ((-85, 0, 0), (20, 20, 20)),
        "Body": ((0, 0, 0), (150, 100, 400)),
    }
    return {name: ellipsoid(grid, *shape) for name, shape in shapes.items()}


def centered_grid(size: tuple, spacing: tuple, direction: tuple | None = None) -> Grid:
    """A grid with the LPS origin in its middle."""
    matrix = np.eye(3) if direction is None else np.asarray(direction)
    origin = -matrix @ (np.asarray(spacing) * (np.asarray(size) - 1) / 2)
    return Grid(size, spacing, tuple(origin), tuple(map(tuple, matrix)))


def ct_of(body: np.ndarray, seed: int = 0) -> np.ndarray:
    """A CT in HU: noisy soft tissue in air."""
    noise = np.random.default_rng(seed).normal(0, 15, body.shape)
    return np.where(body, 40 + noise, -1000).astype(np.int16)


def pelvis_case(
    size: tuple = (80, 64, 48), spacing: tuple = (5.0, 5.0, 5.0), direction: tuple | None = None
) -> Case:
    """A pelvis of ellipsoids with a plan dose that falls off from the target."""
    grid = centered_grid(size, spacing, direction)
    masks = pelvis_masks(grid)
    target = Volume(masks["PTV"].astype(np.float32), grid)
    from scipy import ndimage

    dose = ndimage.gaussian_filter(target.array, [12 / s for s in reversed(spacing)]) * 45
    return Case(
        name="phantom",
        ct=Volume(ct_of(masks["Body"]), grid),
        structures={name: Volume(mask, grid) for name, mask in masks.items()},
        plan_dose=Volume(np.where(masks["Body"], dose, 0).astype(np.float32), grid),
        prescription=Prescription({"PTV": 45.0}, 25),
    )


def mirrored_case(case: Case) -> Case:
    """The left–right mirrored patient, without a plan: paired organs change names."""
    swap = {"FemurHead_L": "FemurHead_R", "FemurHead_R": "FemurHead_L"}
    return replace(
        case,
        ct=case.ct.with_array(case.ct.array[..., ::-1]),
        structures={
            swap.get(name, name): mask.with_array(mask.array[..., ::-1])
            for name, mask in case.structures.items()
        },
        plan_dose=None,
    )


def write_nifti(path: Path, volume: Volume) -> Path:
    """Write a volume by nibabel alone, so that tests do not rest on the library's writer."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.index_to_world
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    return path


def write_case_folder(
    folder: Path, case: Case, suffix: str = "", names: Mapping[str, str] | None = None
) -> Path:
    """A NIfTI case folder, as clinics have it."""
    folder.mkdir(parents=True)
    write_nifti(folder / f"ct{suffix}.nii.gz", case.ct)
    for name, mask in case.structures.items():
        write_nifti(folder / f"{(names or {}).get(name, name)}{suffix}.nii.gz", mask)
    if case.plan_dose is not None:
        write_nifti(folder / f"dose_plan{suffix}.nii.gz", case.plan_dose)
    content: dict[str, object] = {}
    if case.prescription is not None:
        content = {
            "prescription": dict(case.prescription.target_gy),
            "fractions": case.prescription.fractions,
        }
    if case.beams is not None:
        content["beams"] = dataclasses.asdict(case.beams)
    if content:
        (folder / "case.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def csv_folder(folder: Path, changes: dict[str, str] | None = None) -> Path:
    """A tiny patient in the published sparse form."""
    folder.mkdir()
    center = np.ravel_multi_index((60, 61, 62), (EDGE,) * 3)
    rows = {
        "ct": f",data\n{center},1064.0\n{center + 1},1000.0\n",
        "PTV70": f",data\n{center},\n",
        "LeftParotid": f",data\n{center + 1},\n",
        "dose": f",data\n{center},70.5\n",
        "possible_dose_mask": f",data\n{center},\n{center + 1},\n",
        "voxel_dimensions": "3.9\n3.8\n2.5\n",
    }
    for name, text in {**rows, **(changes or {})}.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def write_segmentation(
    path: Path, array: np.ndarray, grid: Grid, header: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """A `.seg.nrrd` as Slicer writes it: `(z, y, x)` or `(z, y, x, layer)`, with its keys."""
    layers = array.ndim == 4
    vectors = [
        "(" + ",".join(f"{v * s:g}" for v in np.asarray(grid.direction)[:, axis]) + ")"
        for axis, s in enumerate(grid.spacing)
    ]
    sizes = " ".join(str(n) for n in reversed(array.shape))
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        "space directions: " + " ".join((["none"] if layers else []) + vectors),
        "kinds: " + ("list " if layers else "") + "domain domain domain",
        "encoding: gzip",
        "space origin: (" + ",".join(f"{o:g}" for o in grid.origin) + ")",
        *(f"{key}:={value}" for key, value in header.items()),
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(array.tobytes()))
    return path


def segment_keys(*segments: tuple[str, int, int]) -> dict[str, str]:
    keys = {"Segmentation_ContainedRepresentationNames": "Binary labelmap|"}
    for index, (name, value, layer) in enumerate(segments):
        keys |= {
            f"Segment{index}_Name": name,
            f"Segment{index}_ID": f"Segment_{index}",
            f"Segment{index}_LabelValue": str(value),
            f"Segment{index}_Layer": str(layer),
        }
    return keys


def random_network(structures: int = 9, filters: tuple = (2, 2), seed: int = 1) -> TwoStageNetwork:
    """A two-stage network with random weights and batch norm statistics, in eval mode."""
    torch.manual_seed(seed)
    network = TwoStageNetwork(TwoStageConfig(structures, 4, 0, *filters))
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    torch.nn.init.constant_(network.stage2.out_conv.bias, 0.5)  # a dose that is not all zero
    return network.eval()


def prediction_of(case: Case, model: ModelFolder, factor: float = 1.04) -> Prediction:
    """The plan, by default 4 % hotter."""
    assert case.plan_dose is not None and case.prescription is not None
    mapping = map_structures(list(case.structures), model.protocol)
    dose = case.plan_dose.with_array(case.plan_dose.array * np.float32(factor))
    return Prediction(
        case=case,
        model=model,
        outputs=(Output("dose", dose, "dose", "Gy"),),
        mapping=mapping,
        prescription=case.prescription,
        external=case.structures["Body"],
        findings=(),
        fallbacks=(),
        device="cpu",
        precision="fp32",
        seconds={"total": 1.0},
    )


def write_checkpoint(path: Path, network: TwoStageNetwork, key: str | None = "model") -> Path:
    """A checkpoint as published: a state dict, bare or under a key."""
    state = network.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 7}, path)
    return path
