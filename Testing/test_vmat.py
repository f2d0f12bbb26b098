"""npz files of the VMAT diffusion project: written, read as its scripts write them, or refused."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from support import PELVIS_SAMPLE, pelvis_case, write_case_folder

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.io import find_cases, read_case
from DosePredictionLib.io.pickled_numbers import numbers_after
from DosePredictionLib.io.vmat import CHANNELS
from DosePredictionLib.io.vmat_writer import PROTOCOL, write_vmat
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.volume import Volume
from DosePredictionLib.wishes import Wish
from training.__main__ import main as training

SPACING_MM = (12.0, 10.0, 14.0)
DOSE_GY = 1e-5


def prostate_case(direction: tuple | None = None) -> Case:
    """A tiny case with two target levels, names as a clinic types them, and limits of its own."""
    phantom = pelvis_case((22, 18, 14), SPACING_MM, direction)
    masks = dict(phantom.structures)
    low = Volume(ndimage.binary_dilation(masks["PTV"].array), phantom.grid)
    names = {"Bladder": "Harnblase", "FemurHead_L": "Femur_L", "FemurHead_R": "FemHead R"}
    kept = {names.get(name, name): masks[name] for name in ("Rectum", "Body", *names)}
    dose = phantom.plan_dose
    assert dose is not None
    return replace(
        phantom,
        structures={"PTV_7000": masks["PTV"], "PTV_5600": low, **kept},
        plan_dose=dose.with_array(dose.array * np.float32(70 / dose.array.max())),
        prescription=Prescription({"PTV_7000": 70.0, "PTV_5600": 56.0}, 28, "VMAT"),
        wishes=(Wish("Rectum", 50.0, 31.25), Wish("Rectum", 12.0, 50.0)),
    )


def written(folder: Path, case: Case, *beams: TreatmentBeam) -> Path:
    """The file of a case."""
    path = folder / f"{case.name}.npz"
    write_vmat(path, bind(case, PROTOCOL), beams)
    return path


def arc(crossed_mm: float = 0.0) -> TreatmentBeam:
    """Three control points of four leaf pairs."""
    points = np.zeros(3)
    a = -np.arange(12.0).reshape(3, 4) - 1
    leaves = np.stack([a + crossed_mm, -a - crossed_mm], axis=1)
    return TreatmentBeam(
        number=7,
        name="arc",
        machine="linac",
        kind="DYNAMIC",
        radiation="PHOTON",
        energy_mv=6.0,
        meterset=300.0,
        weight=np.linspace(0, 1, 3),
        gantry_degrees=np.array([181.0, 0.0, 179.0]),
        collimator_degrees=points,
        couch_degrees=points,
        jaws_x_mm=np.zeros((3, 2)),
        jaws_y_mm=np.zeros((3, 2)),
        leaves_mm=leaves,
        leaf_borders_mm=np.arange(5.0),
        leaves_along="X",
        isocenter_mm=(0.0, 0.0, 0.0),
        dose_rate_mu_min=points,
    )


# ---------------------------------------------------------------- round trip

FLIPPED = ((0, -1, 0), (1, 0, 0), (0, 0, -1))


@pytest.mark.parametrize("direction", [None, FLIPPED])
def test_what_is_written_is_read_again(tmp_path: Path, direction: tuple | None) -> None:
    case = prostate_case(direction)
    read = read_case(written(tmp_path, case, arc()))
    assert read.grid == case.ct.reordered_to_lps().grid
    assert np.array_equal(read.ct.array, case.ct.reordered_to_lps().array)  # whole HU
    assert case.plan_dose is not None and read.plan_dose is not None
    dose_gy = case.plan_dose.reordered_to_lps().array
    np.testing.assert_allclose(read.plan_dose.array, dose_gy, rtol=0, atol=DOSE_GY)
    sources = ("PTV_7000", "PTV_5600", "Rectum", "Harnblase", "Femur_L", "FemHead R")
    kept = ("PTV70", "PTV56", "Rectum", "Bladder", "Femur_L", "Femur_R")
    assert list(read.structures) == list(kept)
    for name, source in zip(kept, sources, strict=True):
        mask = case.structures[source].reordered_to_lps()
        assert np.array_equal(read.structures[name].array, mask.array), name
    assert read.prescription == Prescription({"PTV70": 70.0, "PTV56": 56.0}, 28)
    assert read.wishes == (Wish("Rectum", 50.0, 31.25),)


def test_the_arrays_are_those_of_the_format(tmp_path: Path) -> None:
    case = prostate_case()
    path = tmp_path / "a.npz"
    lost = write_vmat(path, bind(case, PROTOCOL), [arc()])
    assert [finding.message for finding in lost] == [
        "The format has no place for the goal Rectum V12Gy <= 50 %.",
        "The format has no place for the structures Body.",
    ]
    with np.load(path, allow_pickle=True) as archive:
        arrays = {name: archive[name] for name in archive.files}
    metadata = arrays["metadata"].item()
    y, x, z = metadata["voxel_spacing_mm"]
    assert (x, y, z) == SPACING_MM and metadata["normalization_dose_gy"] == 70.0
    assert arrays["ct"].shape == (18, 22, 14) and arrays["ct"].dtype == np.float32
    assert (arrays["ct"].min(), float(arrays["ct"][9, 11, 7])) == (
        0.25,
        pytest.approx(0.5 + float(case.ct.array[7, 9, 11]) / 4000),
    )
    assert float(arrays["dose"].max()) == pytest.approx(1.0, abs=1e-6)
    assert arrays["masks"].shape == (8, 18, 22, 14) and arrays["masks"].dtype == np.uint8
    for mask, distance in zip(arrays["masks"], arrays["masks_sdf"], strict=True):
        np.testing.assert_allclose(distance, distances(mask > 0, (y, x, z)), atol=1e-5)
    np.testing.assert_allclose(
        arrays["constraints"],
        [1, 0.8, 0, 0.3125, 0.35, 0.2, 75 / 70, 0.5, 0.35, 0.25, 0.1, 0.39, 45 / 70],
        rtol=1e-6,
    )
    assert np.array_equal(arrays["beam0_mlc_a"], arc().leaves_mm[:, 0])
    assert np.array_equal(arrays["beam0_mlc_b"], arc().leaves_mm[:, 1])


def distances(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray:
    """`masks_sdf` as the project defines it."""
    if not mask.any():
        return np.ones(mask.shape)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return np.clip(outside - inside, -50, 50) / 50


def test_the_shipped_plan_survives_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, out = tmp_path / "cases", tmp_path / "out"
    cases.mkdir()
    (cases / PELVIS_SAMPLE.name).symlink_to(PELVIS_SAMPLE)
    call = f"prepare-vmat --cases {cases} --output {out} --workers 1"
    assert training(call.split()) == 0
    assert "no place for the structures Body" in capsys.readouterr().err
    before, read = read_case(PELVIS_SAMPLE), read_case(out / f"{PELVIS_SAMPLE.name}.npz")
    assert read.grid == before.grid and np.array_equal(read.ct.array, before.ct.array)
    assert before.plan_dose is not None and read.plan_dose is not None
    np.testing.assert_allclose(read.plan_dose.array, before.plan_dose.array, rtol=0, atol=DOSE_GY)
    assert np.array_equal(read.structures["Femur_R"].array, before.structures["FemurHead_R"].array)
    assert read.prescription is not None
    assert (read.prescription.target_gy, read.prescription.fractions) == ({"PTV70": 46.0}, 23)


def test_a_case_without_plan_or_two_of_one_name_are_refused_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = prostate_case()
    write_case_folder(tmp_path / "cases" / "a", replace(case, plan_dose=None))
    write_case_folder(tmp_path / "cases" / "b", case)
    call = f"prepare-vmat --cases {tmp_path / 'cases'} --output {tmp_path / 'out'} --workers 1"
    assert training(call.split()) == 3
    assert "a has no plan dose" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.npz"]
    written(tmp_path / "cases", replace(case, name="b"))
    assert training(call.split()) == 2
    assert "two cases called b" in capsys.readouterr().err


def test_a_grid_that_the_format_cannot_say_is_refused(tmp_path: Path) -> None:
    turned = ((0.96, -0.28, 0.0), (0.28, 0.96, 0.0), (0.0, 0.0, 1.0))
    with pytest.raises(CaseError, match="oblique by"):
        written(tmp_path, prostate_case(turned))


# ---------------------------------------------------------------- as the project writes it


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arrays of a file as the project's own script names them: nothing but its pickle says more."""
    path = written(tmp_path_factory.mktemp("vmat"), prostate_case(), arc())
    with np.load(path, allow_pickle=True) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name in ("voxel_spacing_mm", "origin_mm", "normalization_dose_gy", "fractions"):
        del arrays[name]
    arrays["constraints"][3] = 0.5
    return {**arrays, "metadata": metadata()}


def metadata(**changes: Any) -> NDArray:
    """The dictionary of version 2.3, in an array of objects."""
    content = {
        "case_id": "case_0001",
        "prescription_info": {"primary_dose": 70.0, "fractions": 28},
        "case_type": {"type": "sib_2level", "ptv70_exists": np.bool_(True)},
        "normalization_dose_gy": 70.0,
        "voxel_spacing_mm": (12.0, 12.0, 14.0),
        "volume_shape": (18, 22, 14),
        "crop_box": {"y_start": 0, "centroid_voxel": (1, 2, 3)},
    }
    return np.array({**content, **changes}, dtype=object)


def saved(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_a_published_file_is_read_without_unpickling(tmp_path: Path, published: dict) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "boom").touch, ())

    bombs = metadata(a=Bomb(), voxel_spacing_mm=(12.0, 12.0, 14.0), z=Bomb())
    (tmp_path / "processed").mkdir()
    path = saved(tmp_path / "processed" / "case_0001.npz", {**published, "metadata": bombs})
    read = read_case(path)
    assert not (tmp_path / "boom").exists()
    assert read.name == "case_0001"
    assert read.grid.size == (22, 18, 14) and read.grid.spacing == (12.0, 12.0, 14.0)
    assert read.prescription == Prescription({"PTV70": 70.0, "PTV56": 56.0}, None, "VMAT")
    assert read.plan_dose is not None and float(read.plan_dose.array.max()) == pytest.approx(70.0)
    assert read.wishes == ()
    assert [finding.id for finding in read.findings] == ["beams-left-out"]
    assert find_cases(path.parent) == [path]


def test_patient_axes_are_where_the_arrays_say(tmp_path: Path, published: dict) -> None:
    masks = np.zeros_like(published["masks"])
    masks[0, 2, 3, 4] = 1  # anterior, to the patient's right, inferior
    read = read_case(saved(tmp_path / "a.npz", {**published, "masks": masks}))
    assert np.argwhere(read.structures["PTV70"].array).tolist() == [[4, 2, 3]]
    assert read.grid.is_lps_ordered


def test_what_the_preparation_leaves_uncertain_is_said(tmp_path: Path, published: dict) -> None:
    old = metadata(target_spacing_mm=(1.0, 1.0, 2.0), normalization_dose_gy=60.0)
    del old.item()["voxel_spacing_mm"]
    read = read_case(saved(tmp_path / "a.npz", {**published, "metadata": old}))
    assert read.grid.spacing == (1.0, 1.0, 2.0)
    assert read.prescription is not None
    assert read.prescription.target_gy == {"PTV70": 60.0, "PTV56": 48.0}
    published = {**published, "constraints": published["constraints"] * np.float32(70 / 60)}
    other = read_case(saved(tmp_path / "b.npz", {**published, "metadata": old}))
    found = {finding.id: finding.severity for finding in other.findings}
    assert found["case-resampled"] == found["prescription-differs"] == "warning"


def test_a_file_without_dose_is_a_case_without_plan(tmp_path: Path, published: dict) -> None:
    arrays = {name: array for name, array in published.items() if name != "dose"}
    arrays["metadata"] = metadata(normalization_dose_gy=None)
    read = read_case(saved(tmp_path / "a.npz", arrays))
    assert read.plan_dose is None and read.prescription is None


# ---------------------------------------------------------------- refused

Change = Callable[[NDArray], Any]
GONE: Change = lambda array: None  # noqa: E731


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("ct", GONE, "lacks the array 'ct'"),
        ("masks", GONE, "lacks the array 'masks'"),
        ("metadata", GONE, "add the array voxel_spacing_mm"),
        ("ct", lambda a: a[0], "ct must be (y, x, z)"),
        ("ct", lambda a: a[:1], "ct must be (y, x, z)"),
        ("ct", lambda a: np.array([object()]), "ct must be (y, x, z)"),
        ("ct", lambda a: a.astype(object), "ct holds object"),
        ("ct", lambda a: a.astype("U3"), "ct holds <U3"),
        ("ct", lambda a: (a * 1000).astype(np.int16), "ct holds int16"),
        ("ct", lambda a: a * 1000, "ct holds values from"),
        ("ct", lambda a: np.where(a == a.max(), np.nan, a), "ct holds values from nan"),
        ("dose", lambda a: a[1:], "dose must have the shape (18, 22, 14)"),
        ("dose", lambda a: a.transpose(2, 0, 1), "dose must have the shape"),
        ("dose", lambda a: a * 70, "dose holds values from 0 to 70"),
        ("dose", lambda a: np.where(a == a.max(), np.inf, a), "dose holds values from 0 to inf"),
        ("masks", lambda a: a[:7], "(PTV70, PTV56, Prostate, Rectum"),
        ("masks", lambda a: np.concatenate([a, a[:1]]), "got (9, 18, 22, 14)"),
        ("masks", lambda a: a.astype(np.float32), "write uint8"),
        ("masks", lambda a: a * 255, "masks holds values from 0 to 255"),
        ("masks", lambda a: a * 0, "no structures"),
        ("masks_sdf", lambda a: a[:, 1:], "masks_sdf must have the shape"),
        ("constraints", lambda a: a[:12], "constraints must have the shape (13,)"),
        ("constraints", lambda a: a * np.nan, "constraints holds values from nan"),
        ("metadata", lambda a: metadata(voxel_spacing_mm=None), "add the array voxel_spacing_mm"),
        ("metadata", lambda a: metadata(voxel_spacing_mm=(1.0, 1.2, 2.0)), "1 by 1.2 mm"),
        ("metadata", lambda a: metadata(voxel_spacing_mm=(0.0, 0.0, 2.0)), "from 0.05 to 100"),
        ("metadata", lambda a: metadata(normalization_dose_gy=None), "normalization_dose_gy, in"),
        ("metadata", lambda a: metadata(normalization_dose_gy=7000.0), "at most at 200 Gy"),
        ("metadata", lambda a: metadata(notes="x" * 2**21), "metadata.npy inflates to 2 MB"),
        ("voxel_spacing_mm", lambda a: np.ones(2), "voxel_spacing_mm must have the shape (3,)"),
        ("voxel_spacing_mm", lambda a: np.ones(3) * np.nan, "voxel_spacing_mm must be three"),
        ("origin_mm", lambda a: np.ones(3) * np.inf, "origin_mm holds values from inf"),
        ("fractions", lambda a: np.array(0), "fractions holds values from 0"),
        ("normalization_dose_gy", lambda a: np.array(np.nan), "above 0 and at most"),
        ("beam0_mlc_b", GONE, "lacks the array 'beam0_mlc_b'"),
        ("beam0_mlc_a", lambda a: a[1:], "must have one shape"),
        ("beam0_mlc_a", lambda a: a[0], "must have one shape"),
        ("beam0_mlc_a", lambda a: a * np.nan, "beam0_mlc_a holds values from nan"),
        ("beam0_mlc_a", lambda a: a * 100, "beam0_mlc_a holds values from -1200"),
        ("beam0_mlc_a", lambda a: -a + 9, "lie up to"),
        ("beam1_mlc_a", lambda a: a.astype(object), "beam1_mlc_a.npy holds object"),
    ],
)
def test_arrays_that_cannot_be_right_are_refused_by_name(
    tmp_path: Path, published: dict, name: str, change: Change, says: str
) -> None:
    changed = change(published.get(name, np.ones((2, 2))))
    arrays = {key: array for key, array in published.items() if key != name}
    path = saved(tmp_path / "case_1.npz", arrays if changed is None else {**arrays, name: changed})
    with pytest.raises(DosePredictionError) as error:
        read_case(path)
    message = str(error.value)
    assert "case_1" in message and says in message and "\n" not in message


def test_a_mask_that_inflates_beyond_its_header_is_refused_before_it_does(
    tmp_path: Path, published: dict
) -> None:
    path = saved(tmp_path / "bomb.npz", {k: v for k, v in published.items() if k != "masks"})
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (8, 18, 22, 14), }\n"
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("masks.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        for _ in range(64):
            member.write(bytes(2**20))
    with pytest.raises(CaseError, match=r"bomb\.npz: masks\.npy announces"):
        read_case(path)


def test_a_truncated_file_is_refused(tmp_path: Path, published: dict) -> None:
    path = saved(tmp_path / "cut.npz", published)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CaseError, match=r"cut\.npz is not a readable npz file"):
        read_case(path)


def test_a_beam_whose_banks_cross_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"10\.0 mm beyond those of beam0_mlc_b"):
        read_case(written(tmp_path, prostate_case(), arc(crossed_mm=6.0)))


# ---------------------------------------------------------------- numbers in pickles


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numbers_are_found_beside_their_key(protocol: int) -> None:
    content = {"note": "a key", "key": (1.5, 2, 3.0), "other": 4, "last": np.float64(5)}
    pickled = pickle.dumps({"nested": [content]}, protocol)
    if protocol > 1:  # what NumPy has written since 1.17
        assert numbers_after(pickled, "key", 3) == (1.5, 2.0, 3.0)
    assert numbers_after(pickled, "other", 1) == (4.0,)
    assert numbers_after(pickled, "last", 1) is None
    assert numbers_after(pickled, "none", 1) is None
    for end in range(len(pickled)):
        found = numbers_after(pickled[:end], "other", 1)
        assert found in (None, (4.0,))


def test_masks_keep_the_order_of_the_format() -> None:
    assert tuple(PROTOCOL.names) == CHANNELS
    assert isinstance(prostate_case().structures["Rectum"], Mask)
