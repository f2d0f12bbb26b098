"""Structures by the names, labels and layers of their files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from support import (
    centered_grid,
    segment_keys,
    write_case_folder,
    write_segmentation,
)

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import read_case
from DosePredictionLib.io.nifti import read_structures
from DosePredictionLib.io.volumes import file_stem, write_volume
from DosePredictionLib.volume import Volume

LABELS = np.zeros((20, 22, 24), np.uint8)
LABELS[4:10, 4:10, 4:10] = 1
LABELS[4:10, 12:18, 4:10] = 2
LABELS[12:17, 4:10, 14:20] = 5
LABEL_GRID = centered_grid((24, 22, 20), (4.0, 4.0, 5.0))


def structures_of(path: Path) -> tuple[dict[str, np.ndarray], list[Finding]]:
    findings: list[Finding] = []
    masks = read_structures(path, LABEL_GRID, findings)
    return {name: mask.array for name, mask in masks.items()}, findings


def test_a_whole_case_of_slicer_segmentations_has_its_names(tmp_path: Path, case: Case) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    write_volume(folder / "ct.nrrd", case.ct)
    for name, mask in case.structures.items():
        write_segmentation(folder / f"{name}.seg.nrrd", mask.array.astype(np.uint8), case.grid)
    read = read_case(folder)
    assert set(read.structures) == set(case.structures)
    for name, mask in case.structures.items():
        assert np.array_equal(read.structures[name].array, mask.array)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("PTV.seg.nrrd", "PTV"),
        ("PTV.SEG.NRRD", "PTV"),
        ("PTV_70.seg.nhdr", "PTV_70"),
        ("Rectum.seg.mha", "Rectum"),
        ("a.b.nii.gz", "a.b"),
    ],
)
def test_a_stem_has_no_suffix_of_any_kind(name: str, stem: str) -> None:
    assert file_stem(Path(name)) == stem


def test_segments_of_one_layer_are_read_by_label_and_name(tmp_path: Path) -> None:
    keys = segment_keys(("PTV 45", 1, 0), ("Blase", 2, 0), ("Rektum µ", 5, 0))
    masks, findings = structures_of(
        write_segmentation(tmp_path / "s.seg.nrrd", LABELS, LABEL_GRID, keys)
    )
    assert list(masks) == ["PTV 45", "Blase", "Rektum µ"]
    for name, value in zip(masks, (1, 2, 5), strict=True):
        assert np.array_equal(masks[name], value == LABELS)
    assert not findings


def test_overlapping_segments_are_read_by_layer(tmp_path: Path) -> None:
    layers = np.stack([LABELS, (LABELS == 1).astype(np.uint8)], axis=-1)
    keys = segment_keys(("Bladder", 2, 0), ("PTV", 1, 1), ("Rectum", 5, 0))
    masks, findings = structures_of(
        write_segmentation(tmp_path / "s.seg.nrrd", layers, LABEL_GRID, keys)
    )
    assert np.array_equal(masks["PTV"], LABELS == 1)
    assert np.array_equal(masks["Bladder"], LABELS == 2)
    assert np.array_equal(masks["Rectum"], LABELS == 5)
    # Label 1 of the first layer is in no segment.
    (finding,) = findings
    assert finding.id == "labels-unnamed" and str(np.count_nonzero(LABELS == 1)) in finding.message


def test_layers_of_slicer_4_have_a_segment_each(tmp_path: Path) -> None:
    layers = np.stack([LABELS == 1, LABELS == 5], axis=-1).astype(np.uint8)
    keys = {"Segment0_Name": "PTV", "Segment1_Name": "Rectum"}
    masks, _ = structures_of(write_segmentation(tmp_path / "s.seg.nrrd", layers, LABEL_GRID, keys))
    assert np.array_equal(masks["PTV"], LABELS == 1)
    assert np.array_equal(masks["Rectum"], LABELS == 5)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("Prostata", "Prostata"), ("Segment_1", "Bladder"), ("Segment 12", "Bladder")],
)
def test_one_segment_has_its_own_name_unless_nobody_gave_it_one(
    tmp_path: Path, written: str, expected: str
) -> None:
    array = (LABELS == 2).astype(np.uint8) * 3
    path = write_segmentation(
        tmp_path / "Bladder.seg.nrrd", array, LABEL_GRID, segment_keys((written, 3, 0))
    )
    masks, _ = structures_of(path)
    assert list(masks) == [expected]
    assert np.array_equal(masks[expected], LABELS == 2)


def test_an_empty_segment_stays_an_empty_structure(tmp_path: Path) -> None:
    keys = segment_keys(("PTV", 1, 0), ("Rectum", 9, 0), ("A", 2, 0), ("B", 5, 0))
    masks, findings = structures_of(
        write_segmentation(tmp_path / "s.seg.nrrd", LABELS, LABEL_GRID, keys)
    )
    assert not masks["Rectum"].any() and not findings


@pytest.mark.parametrize(
    ("segments", "names"),
    [
        ([("PTV", 1, 0), ("PTV", 2, 0)], "two segments"),
        ([("PTV", 1, 3)], "layer"),
        ([("PTV", 0, 0)], "label 0"),
        ([("", 1, 0)], None),
    ],
)
def test_an_impossible_list_of_segments_is_refused(
    tmp_path: Path, segments: list, names: str | None
) -> None:
    path = write_segmentation(tmp_path / "s.seg.nrrd", LABELS, LABEL_GRID, segment_keys(*segments))
    if names is None:  # a segment without a name has its ID
        assert list(structures_of(path)[0]) == ["s"]
        return
    with pytest.raises(CaseError, match=names):
        structures_of(path)


def test_two_files_that_hold_one_name_are_refused(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    array = case.structures["Bladder"].array.astype(np.uint8)
    keys = segment_keys(("Rectum", 1, 0))
    write_segmentation(folder / "more.seg.nrrd", array, case.grid, keys)
    with pytest.raises(CaseError, match=r"Rectum.*another file"):
        read_case(folder)


def test_a_label_map_without_names_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for name in ("segmentation.nii.gz", "PTV.nrrd", "labels.mha"):
        write_volume(tmp_path / name, Volume(LABELS, LABEL_GRID))
        with pytest.raises(CaseError, match=r"3 labels \(1, 2, 5\).*\.json beside it"):
            structures_of(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("all.json", '{"1": "PTV", "2": "Bladder", "5": "Rectum", "77": "Liver"}'),
        ("all.json", '{"PTV": 1, "Bladder": 2, "Rectum": 5}'),
        ("dataset.json", '{"labels": {"background": 0, "PTV": 1, "Bladder": 2, "Rectum": 5}}'),
        ("labels.csv", "value,name\n1,PTV\n2,Bladder\n5,Rectum\n"),
        (
            "all_ColorTable.csv",
            "LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n0,Background,0,0,0,0\n"
            "1,PTV,1,2,3,255\n2,Bladder,4,5,6,255\n5,Rectum,7,8,9,255\n",
        ),
        ("labels.txt", "1 PTV\n2 Bladder\n5\tRectum\n"),
        (
            "all.txt",
            '# ITK-SnAP\n0 0 0 0 0 0 0 "Clear Label"\n1 255 0 0 1 1 1 "PTV"\n'
            '2 0 255 0 1 1 1 "Bladder"\n5 0 0 255 0.5 1 1 "Rectum"\n',
        ),
        (
            "all.ctbl",
            "0 Background 0 0 0 0\n1 PTV 1 2 3 255\n2 Bladder 4 5 6 255\n5 Rectum 7 8 9 255\n",
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int16"])
def test_a_label_map_is_a_structure_per_label_with_the_names_beside_it(
    tmp_path: Path, file: str, content: str, dtype: str
) -> None:
    write_volume(tmp_path / "all.nii.gz", Volume(LABELS.astype(dtype), LABEL_GRID))
    (tmp_path / file).write_text(content)
    masks, findings = structures_of(tmp_path / "all.nii.gz")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "PTV": 216,
        "Bladder": 216,
        "Rectum": 180,
    }
    assert [finding.id for finding in findings] == ["labels-named"] and file in findings[0].message


def test_a_label_map_has_the_names_of_its_own_header(tmp_path: Path) -> None:
    # As TotalSegmentator writes it.
    table = "".join(
        f'<Label Key="{value}" Red="1" Green="1" Blue="1" Alpha="1"><![CDATA[{name}]]></Label>'
        for value, name in ((1, "PTV"), (2, "urinary_bladder"), (5, "colon"), (90, "brain"))
    )
    xml = f"<CaretExtension><VolumeInformation><LabelTable>{table}</LabelTable></VolumeInformation>"
    image = nibabel.Nifti1Image(LABELS.T, np.diag([-1, -1, 1, 1]) @ LABEL_GRID.index_to_world)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    nibabel.save(image, tmp_path / "total.nii.gz")
    masks, _ = structures_of(tmp_path / "total.nii.gz")
    assert list(masks) == ["PTV", "urinary_bladder", "colon"]
    assert np.array_equal(masks["colon"], LABELS == 5)


def test_thousands_of_labels_or_segments_are_refused_before_their_masks_are_made(
    tmp_path: Path,
) -> None:
    grid = centered_grid((40, 40, 40), (4.0, 4.0, 4.0))
    blocks = np.arange(13**3).reshape(13, 13, 13)
    for axis in range(3):
        blocks = np.repeat(blocks, 3, axis)
    write_volume(
        tmp_path / "all.nii.gz",
        Volume(blocks.astype(np.int16), grid.cropped((0, 0, 0), (39, 39, 39))),
    )
    (tmp_path / "all.json").write_text(json.dumps({str(v): f"S{v}" for v in range(1, 3001)}))
    with pytest.raises(CaseError, match=r"all\.nii\.gz.*structures"):
        structures_of(tmp_path / "all.nii.gz")
    keys = segment_keys(*((f"S{number}", number + 1, 0) for number in range(3000)))
    path = write_segmentation(tmp_path / "s.seg.nrrd", LABELS, LABEL_GRID, keys)
    with pytest.raises(CaseError, match=r"s\.seg\.nrrd.*structures"):
        structures_of(path)


def test_labels_that_nobody_named_are_a_warning(tmp_path: Path) -> None:
    write_volume(tmp_path / "all.nii.gz", Volume(LABELS, LABEL_GRID))
    (tmp_path / "all.json").write_text('{"1": "PTV"}')
    masks, findings = structures_of(tmp_path / "all.nii.gz")
    assert list(masks) == ["PTV"]
    assert {f.id: f.severity for f in findings}["labels-unnamed"] == "warning"
    (tmp_path / "all.json").write_text('{"9": "PTV"}')
    with pytest.raises(CaseError, match="none of its labels"):
        structures_of(tmp_path / "all.nii.gz")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("{", "valid JSON"),
        ("[1, 2]", "names no labels"),
        ("{}", "names no labels"),
        ('{"1": ["PTV"]}', "expected a label value"),
        ('{"PTV": 1, "CTV": 1}', "twice"),
        ('{"1": "PTV", "2": "PTV"}', "twice"),
        ('{"PTV": -1}', "1 to 65535"),
        ('{"PTV": NaN}', "finite"),
        ('{"1": ""}', "has a name"),
    ],
)
def test_a_bad_list_of_labels_is_refused_by_name(tmp_path: Path, content: str, names: str) -> None:
    write_volume(tmp_path / "all.nii.gz", Volume(LABELS, LABEL_GRID))
    (tmp_path / "all.json").write_text(content)
    with pytest.raises(CaseError, match=names) as error:
        structures_of(tmp_path / "all.nii.gz")
    assert "all.json" in str(error.value)


def test_a_list_of_labels_does_not_rename_a_plain_mask(tmp_path: Path) -> None:
    write_volume(tmp_path / "PTV.nii.gz", Volume((LABELS == 1).astype(np.uint8), LABEL_GRID))
    (tmp_path / "labels.json").write_text('{"1": "Bladder"}')
    assert list(structures_of(tmp_path / "PTV.nii.gz")[0]) == ["PTV"]
