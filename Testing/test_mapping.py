"""Names to channels: what matches, what must not, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from DosePredictionLib.errors import MappingError, NoProtocolError
from DosePredictionLib.structures.mapping import (
    StructureMapping,
    find_structure,
    fitting_protocol,
    map_structures,
    propose_mapping,
)
from DosePredictionLib.structures.mapping_files import (
    parse_map_option,
    read_mapping,
    write_mapping,
)
from DosePredictionLib.structures.protocol import StructureProtocol

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
PELVIC_BASE = ["PTV", "Bladder", "Rectum", "Body"]

# Long lists stand as text: one name a line would hide them.
NEVER_MATCH = (
    "optRectum,Rectum_opt,z_Rectum,zRectum,_Rectum,~Rectum,Rectum-PTV,Rectum minus PTV,Rectum PRV,"
    "Rectum_avoid,Rectum1,Rectum_L,SpinalCord_PRV05,SpinalCordPRV,PRV_SpinalCord,Femur_Heads,"
    "Femoral Head,Parotids,dose 45,NTO,couch,GTV,CTV,ITV,GTV45,CTV_4500,PTV_ring,ring PTV,RingPTV,"
    "PTV_eval,PTVeval,PTV_opt,optPTV,ptv70opt,z_PTV,PTV-Rectum,PTV63-PTV70,PTV_63-70,PTV_7000-03,"
    "PTV+5mm,PTV - 3 mm,PTVs,CTV to PTV,GTV_PTV,Bladder-PTV,PTV70 not 63,Shell_PTV,PTV avoid"
)
SEVENTY_GY = (
    "PTV_7000,PTV70Gy,PTV 1 70,ptv-boost 70,PTV_70.0,PTVp1_7000,PTV 70 Gy,PTV_7000cGy,PTV_2Gyx35,"
    "PTV_70_35fx,PTV70/35,PTV_High_6996,70Gy PTV,PTV 69.96,ptv_70_neck_L"
)
ECLIPSE_LIST = (
    "BODY,Bladder,CTV,Femoral Head Lt,Femoral Head RT,PROS,PTV,Rectum,Vessels - left,"
    "Vessels - right,X1,X2,X3,XApprox,optBladder,optRectum"
)


def channel_of(name: str, protocol: StructureProtocol) -> str | None:
    """The channel that a structure finds beside the required ones."""
    base = [n for n in (PELVIC_BASE if protocol is PELVIS else ["PTV70"]) if n != name]
    mapping = propose_mapping([*base, name], protocol)
    return next((c for c, structure in mapping.assigned.items() if structure == name), None)


def ids(mapping: StructureMapping, severity: str) -> list[str]:
    return [finding.id for finding in mapping.findings if finding.severity == severity]


# --- Organs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("Femoral Head Lt", "FemurHead_L"),
        ("Femoral Head RT", "FemurHead_R"),
        ("FemHeadNeck_L", "FemurHead_L"),
        ("caput femoris links", "FemurHead_L"),
        ("Hüftkopf re", "FemurHead_R"),
        ("Hu\u0308ftkopf rechts", "FemurHead_R"),
        ("HUEFTKOPF_LI", "FemurHead_L"),
        ("Tête fémorale gauche", "FemurHead_L"),
        ("tete du femur droite", "FemurHead_R"),
        ("Cabeza de fémur izq", "FemurHead_L"),
        ("Testa femore dx", "FemurHead_R"),
        ("R_FemHead", "FemurHead_R"),
        ("LFemHead", "FemurHead_L"),
        ("FEMHEADL", "FemurHead_L"),
        ("Head, Femoral (L)", "FemurHead_L"),
        ("Femur_Head_R", "FemurHead_R"),
        ("BONE MARROW", "Marrow"),
        ("Bowel_Small", "Small_Intestine"),
        ("small bowel", "Small_Intestine"),
        ("Spinal_Cord", "SpinalCord"),
        ("Rückenmark", "SpinalCord"),
    ],
)
def test_pelvic_spellings_find_their_channel(name: str, channel: str) -> None:
    assert channel_of(name, PELVIS) == channel


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("Parotid LT", "LeftParotid"),
        ("parotid_left", "LeftParotid"),
        ("Left Parotid Gland", "LeftParotid"),
        ("RParotid", "RightParotid"),
        ("PAROTIDR", "RightParotid"),
        ("Glnd_Parotid_R", "RightParotid"),
        ("Glandula parotis rechts", "RightParotid"),
        ("Parótida izq", "LeftParotid"),
        ("Parotide G", "LeftParotid"),
        ("SPINALCORD", "SpinalCord"),
        ("Tronc cérébral", "Brainstem"),
        ("brain stem", "Brainstem"),
        ("Œsophage", "Esophagus"),
        ("Ösophagus", "Esophagus"),
        ("Bone_Mandible", "Mandible"),
        ("Larynx OAR", "Larynx"),
        ("BODY", "External"),
    ],
)
def test_head_and_neck_spellings_find_their_channel(name: str, channel: str) -> None:
    assert channel_of(name, HEAD_AND_NECK) == channel


@pytest.mark.parametrize(
    "name",
    NEVER_MATCH.split(","),
)
@pytest.mark.parametrize("protocol", [PELVIS, HEAD_AND_NECK], ids=lambda p: p.id)
def test_derived_and_other_structures_never_match(name: str, protocol: StructureProtocol) -> None:
    assert find_all(name, protocol) == []


def find_all(name: str, protocol: StructureProtocol) -> list[str]:
    """Every channel that a structure finds when nothing else is there to fill any."""
    return list(propose_mapping([name], protocol).assigned)


def test_every_listed_spelling_finds_its_own_channel_and_no_other() -> None:
    for protocol in (PELVIS, HEAD_AND_NECK):
        for channel in (*protocol.organs, protocol.external):
            assert channel is not None
            for spelling in (channel.name, channel.tg263, channel.label, *channel.synonyms):
                side = {"left": " L", "right": " R", None: ""}[channel.side]
                sided = spelling if find_all(spelling, protocol) else spelling + side
                assert find_all(sided, protocol) == [channel.name], (channel.name, spelling)


def test_no_related_name_matches_by_itself() -> None:
    for protocol in (PELVIS, HEAD_AND_NECK):
        for channel in protocol.channels:
            for related in channel.related:
                assert find_all(related, protocol) == [], (channel.name, related)


def test_a_planning_systems_list_maps_as_a_whole() -> None:
    names = ECLIPSE_LIST.split(",")
    mapping = map_structures(names, PELVIS)
    assert mapping.assigned == {
        "PTV": "PTV",
        "Bladder": "Bladder",
        "Rectum": "Rectum",
        "FemurHead_L": "Femoral Head Lt",
        "FemurHead_R": "Femoral Head RT",
        "Body": "BODY",
    }
    assert [match.channel for match in mapping.matches] == PELVIS.names
    assert all(match.reason for match in mapping.matches)
    assert mapping.structure("Marrow") is None
    assert ids(mapping, "info") == ["structure-missing"] * 3
    assert ids(mapping, "warning") == []


def test_channel_name_wins_over_tg263_over_synonym_and_says_so() -> None:
    names = ["FemHead L", "Femur_Head_L", "FemurHead_L"]
    for left_out in range(3):
        present = names[: 3 - left_out]
        mapping = map_structures([*PELVIC_BASE, *present], PELVIS)
        assert mapping.structure("FemurHead_L") == present[-1]
        assert ("mapping-alternatives" in ids(mapping, "info")) == (len(present) > 1)


def test_two_structures_that_fit_equally_are_refused_with_what_to_type() -> None:
    with pytest.raises(MappingError) as caught:
        map_structures([*PELVIC_BASE, "Fem Head L", "caput femoris links"], PELVIS)
    assert "--map FemurHead_L=" in str(caught.value)
    assert 'FemurHead_L="Fem Head L"' in str(caught.value)
    assert "caput femoris links" in str(caught.value)


def test_related_structure_is_told_of_and_mapping_it_by_hand_warns() -> None:
    names = [*PELVIC_BASE, "Bowel_Bag"]
    mapping = map_structures(names, PELVIS)
    assert mapping.structure("Small_Intestine") is None
    stated = next(f for f in mapping.findings if f.structure == "Small_Intestine")
    assert "--map Small_Intestine=Bowel_Bag" in stated.remedy
    by_hand = map_structures(names, PELVIS, {"Small_Intestine": "Bowel_Bag"})
    assert by_hand.structure("Small_Intestine") == "Bowel_Bag"
    assert ids(by_hand, "warning") == ["mapped-related"]


def test_totalsegmentators_names_find_their_channels_and_leave_rectum_and_marrow_empty() -> None:
    names = "urinary_bladder prostate colon small_bowel hip_left hip_right femur_left femur_right"
    names += " sacrum vertebrae_L5 spinal_cord gluteus_maximus_left iliac_artery_left body"
    mapping = map_structures(["PTV", *names.split()], PELVIS, required=())
    assert mapping.assigned == {
        "PTV": "PTV",
        "Bladder": "urinary_bladder",
        "Small_Intestine": "small_bowel",
        "SpinalCord": "spinal_cord",
        "FemurHead_L": "femur_left",
        "FemurHead_R": "femur_right",
        "Body": "body",
    }


# --- Missing and empty -------------------------------------------------------------------------


def test_missing_required_structure_names_what_was_found_and_the_nearest() -> None:
    with pytest.raises(MappingError) as caught:
        map_structures(["PTV", "Blader", "Rectum", "Body"], PELVIS)
    message = str(caught.value)
    assert "channel Bladder" in message
    assert "found: PTV, Blader, Rectum, Body" in message
    assert "--map Bladder=Blader" in message
    assert "\n" not in message


def test_neither_gtv_nor_ctv_is_suggested_for_a_missing_target() -> None:
    with pytest.raises(MappingError, match="--map PTV=NAME"):
        map_structures(["GTV", "CTV", "Bladder", "Rectum", "Body"], PELVIS)


def test_all_zero_structures() -> None:
    names = [*PELVIC_BASE, "Marrow"]
    with pytest.raises(MappingError, match=r"Rectum .* all-zero"):
        map_structures(names, PELVIS, empty=["Rectum"])
    with pytest.raises(MappingError, match=r"Rectum .* all-zero"):
        map_structures(names, PELVIS, {"Rectum": "Rectum"}, empty=["Rectum"])
    mapping = map_structures(names, PELVIS, empty=["Marrow"])
    assert mapping.structure("Marrow") is None
    assert "structure-empty" in ids(mapping, "info")


def test_an_all_zero_structure_does_not_win_over_a_contoured_one() -> None:
    mapping = map_structures([*PELVIC_BASE, "Harnblase"], PELVIS, empty=["Bladder"])
    assert mapping.structure("Bladder") == "Harnblase"


def test_names_of_any_script_are_taken_as_they_are() -> None:
    odd = ["", " ", "-", "²", "PTV፩", "PTV①", "直肠", "膀胱", "٧٠", "PTV_٧٠", "x" * 500]
    mapping = map_structures([*PELVIC_BASE, *odd], PELVIS)
    assert set(mapping.assigned.values()) == set(PELVIC_BASE)
    assert find_structure("直肠", odd, PELVIS) == "直肠"


def test_a_panel_gets_the_problem_as_a_finding() -> None:
    mapping = propose_mapping(["PTV", "Bladder", "Body"], PELVIS)
    assert mapping.structure("PTV") == "PTV"
    assert ids(mapping, "blocking") == ["structure-missing"]


# --- By hand -----------------------------------------------------------------------------------


def test_a_persons_choice_wins_and_may_leave_a_channel_empty() -> None:
    names = [*PELVIC_BASE, "Marrow", "thing"]
    mapping = map_structures(names, PELVIS, {"Rectum": "thing", "Marrow": None})
    assert mapping.structure("Rectum") == "thing"
    assert mapping.structure("Marrow") is None
    assert [m.channel for m in mapping.matches if not m.automatic] == ["Rectum", "Marrow"]


def test_what_is_mapped_by_hand_is_not_mapped_again() -> None:
    names = ["PTV_4500", "PTV_5040", "Bladder", "Rectum", "Body"]
    mapping = map_structures(names, PELVIS, {"PTV": "PTV_4500"})
    assert mapping.structure("PTV") == "PTV_4500"
    taken = map_structures([*PELVIC_BASE, "FemHead L"], PELVIS, {"FemurHead_R": "FemHead L"})
    assert taken.structure("FemurHead_L") is None
    assert ids(taken, "warning") == ["mapped-unlike"]


@pytest.mark.parametrize(
    ("chosen", "stated"),
    [
        ({"Rektum": "Rectum"}, "Nearest: Rectum"),
        ({"Rectum": "Rectm"}, "Nearest: Rectum"),
        ({"Rectum": "Bladder", "Marrow": "Bladder"}, "more than one channel"),
    ],
)
def test_impossible_choices_are_refused(chosen: dict[str, str | None], stated: str) -> None:
    with pytest.raises(MappingError, match=stated):
        map_structures(PELVIC_BASE, PELVIS, chosen)


@pytest.mark.parametrize("name", ["CTV", "optPTV", "Bladder2"])
def test_a_target_that_is_no_ptv_is_obeyed_with_a_warning(name: str) -> None:
    mapping = map_structures([*PELVIC_BASE, name], PELVIS, {"PTV": name})
    assert mapping.structure("PTV") == name
    assert "mapped-unlike" in ids(mapping, "warning")


# --- Targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    SEVENTY_GY.split(","),
)
def test_dose_in_the_name_finds_the_level(name: str) -> None:
    mapping = map_structures([name, "PTV56"], HEAD_AND_NECK)
    assert mapping.assigned == {"PTV70": name, "PTV56": "PTV56"}
    assert ids(mapping, "warning") == []


@pytest.mark.parametrize(
    ("names", "expected", "warnings"),
    [
        ("PTV_High PTV_Mid PTV_Low", "PTV_High PTV_Mid PTV_Low", 0),
        ("PTV_LR PTV_HR PTV_IR", "PTV_HR PTV_IR PTV_LR", 0),
        ("PTV_Low PTV_High", "PTV_High - PTV_Low", 0),
        ("PTV_54 PTV_60 PTV_66", "PTV_66 PTV_60 PTV_54", 3),
        ("PTV_7000 PTV_59.4 PTV_54.12", "PTV_7000 PTV_59.4 PTV_54.12", 2),
        ("PTV_6600 PTV_5400", "PTV_6600 - PTV_5400", 2),
        ("PTV_6000", "PTV_6000 - -", 1),
        ("PTV_High PTV_60 PTV_54", "PTV_High PTV_60 PTV_54", 2),
        ("PTV70 PTV_7000", "PTV70 - -", 1),
        ("PTV", "PTV - -", 1),
    ],
)
def test_levels_keep_their_order(names: str, expected: str, warnings: int) -> None:
    mapping = map_structures(names.split(), HEAD_AND_NECK)
    assert [mapping.structure(c) or "-" for c in ("PTV70", "PTV63", "PTV56")] == expected.split()
    assert len(ids(mapping, "warning")) == warnings


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["PTV_7000", "PTV70_boost"], ["--map PTV70=PTV_7000", "--map PTV70=PTV70_boost"]),
        (["PTV_7000", "PTV_59.5"], ["--map PTV63=PTV_59.5", "--map PTV56=PTV_59.5"]),
        (["PTVa", "PTVb"], ["--map PTV70=PTVa", "--map PTV70=PTVb"]),
        (["PTV70", "PTV60a", "PTV60b"], ["--map PTV63=PTV60a", "--map PTV63=PTV60b"]),
    ],
)
def test_a_tie_of_levels_is_refused(names: list[str], options: list[str]) -> None:
    with pytest.raises(MappingError) as caught:
        map_structures(names, HEAD_AND_NECK)
    assert all(option in str(caught.value) for option in options)


@pytest.mark.parametrize(
    ("names", "winner"),
    [
        (["PTV_4500", "PTV_5040"], "PTV_5040"),
        (["PTV45", "PTV_50.4", "PTV_6600"], "PTV_6600"),
        (["PTV_Low", "PTV_High"], "PTV_High"),
        (["PTV", "PTV_5040"], "PTV"),
    ],
)
def test_one_target_protocol_takes_the_highest_and_names_the_others(
    names: list[str], winner: str
) -> None:
    mapping = map_structures([*names, "Bladder", "Rectum", "Body"], PELVIS)
    assert mapping.structure("PTV") == winner
    stated = next(f for f in mapping.findings if f.id == "target-not-used")
    assert stated.severity == "warning"
    assert all(name in stated.message for name in names)


@pytest.mark.parametrize("names", [["PTV1", "PTV2"], ["PTV_4500", "PTV_nodes"], ["PTV A", "PTV B"]])
def test_targets_that_do_not_tell_the_higher_are_refused(names: list[str]) -> None:
    with pytest.raises(MappingError) as caught:
        map_structures([*names, "Bladder", "Rectum", "Body"], PELVIS)
    assert all(f"--map PTV={n}" in str(caught.value).replace('"', "") for n in names)


def test_any_plain_ptv_fills_a_single_target_channel() -> None:
    for name in ("PTV_4500", "PTV prostate", "PTV nodes 45", "PTV total", "Planning target volume"):
        assert channel_of_alone(name) == "PTV"


def channel_of_alone(name: str) -> str | None:
    mapping = propose_mapping([name, "GTV", "CTV", "PTV_ring", "Rectum"], PELVIS)
    return next((c for c, structure in mapping.assigned.items() if structure == name), None)


# --- Goals, options and files ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "names", "found"),
    [
        ("Rectum", ["rectum", "optRectum"], "rectum"),
        ("Femur_Head_L", ["Femoral Head Lt", "Femoral Head RT"], "Femoral Head Lt"),
        ("Bowel_Bag", ["Small_Intestine", "Bag_Bowel"], "Bag_Bowel"),
        ("Bowel_Bag", ["Small_Intestine"], None),
        ("Small_Intestine", ["Bowel_Bag"], None),
        ("Small_Intestine", ["Small Bowel"], "Small Bowel"),
        ("PTV", ["PTV_4500", "PTV_ring", "CTV"], "PTV_4500"),
        ("Rectum", ["Enddarm", "Rektum"], None),
        ("CTV", ["PTV", "ctv"], "ctv"),
        ("Liver", ["Bladder"], None),
    ],
)
def test_goals_bind_to_the_structure_that_they_name(
    query: str, names: list[str], found: str | None
) -> None:
    assert find_structure(query, names, PELVIS) == found


def test_a_goal_on_a_level_does_not_bind_to_another_level() -> None:
    assert find_structure("PTV70", ["PTV_7000", "PTV_6000"], HEAD_AND_NECK) == "PTV_7000"
    assert find_structure("PTV70", ["PTV_6600"], HEAD_AND_NECK) is None
    assert find_structure("PTV_63", ["ptv 63 gy"]) == "ptv 63 gy"


def test_map_option() -> None:
    assert parse_map_option("PTV=PTV 70 = boost") == ("PTV", "PTV 70 = boost")
    assert parse_map_option("Marrow=") == ("Marrow", None)
    for wrong in ("PTV", "=PTV", ""):
        with pytest.raises(MappingError, match="CHANNEL=NAME"):
            parse_map_option(wrong)


def test_mapping_file_round_trip(tmp_path: Path) -> None:
    names = ["PTV_4500", "Blase ü", "Rectum", "Body"]
    mapping = map_structures(names, PELVIS, {"Bladder": "Blase ü"})
    path = tmp_path / "mapping.json"
    write_mapping(path, mapping)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["mapping.json"]
    chosen = read_mapping(path, PELVIS)
    assert json.loads(path.read_text(encoding="utf-8"))["protocol"] == "pelvis"
    assert map_structures(names, PELVIS, chosen).assigned == mapping.assigned
    assert mapping.as_json()["channels"] == chosen


@pytest.mark.parametrize(
    ("content", "stated"),
    [
        ("{", "no valid JSON"),
        ("[]", "must hold"),
        ('{"protocol": "pelvis"}', "must hold"),
        ('{"protocol": "openkbp", "channels": {}}', "takes 'pelvis'"),
        ('{"protocol": "pelvis", "channels": {"Rektum": "a"}}', "Nearest: Rectum"),
        ('{"protocol": "pelvis", "channels": {"Rectum": 3}}', "name or null"),
        ('{"protocol": "pelvis", "channels": {"Rectum": ""}}', "name or null"),
        ('{"protocol": "pelvis", "channels": []}', "must be an object"),
    ],
)
def test_bad_mapping_files_are_refused(tmp_path: Path, content: str, stated: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(MappingError, match=stated) as caught:
        read_mapping(path, PELVIS)
    assert str(path) in str(caught.value)


def test_missing_and_unwritable_mapping_files(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="cannot be read"):
        read_mapping(tmp_path / "none.json", PELVIS)
    mapping = map_structures(PELVIC_BASE, PELVIS)
    with pytest.raises(MappingError, match="cannot be written"):
        write_mapping(tmp_path / "no folder" / "mapping.json", mapping)


def test_unknown_channel_of_a_mapping_is_an_error() -> None:
    with pytest.raises(MappingError, match="no channel"):
        map_structures(PELVIC_BASE, PELVIS).structure("Liver")


# --- What a message proposes, and the body site -------------------------------------------------

TOTAL_SEGMENTATOR = (
    "urinary_bladder prostate sacrum hip_left hip_right femur_left femur_right colon"
)


@pytest.mark.parametrize("name", ["Breast", "sacrum", "Borders", "Heart", "Lung_R", "Bolus"])
def test_another_organ_is_never_proposed_for_a_missing_one(name: str) -> None:
    for missing in ("Rectum", "Bladder"):
        names = [other for other in (*PELVIC_BASE, name) if other != missing]
        with pytest.raises(MappingError) as caught:
            map_structures(names, PELVIS)
        assert f"={name}" not in str(caught.value) and f"Nearest: {name}" not in str(caught.value)


@pytest.mark.parametrize("name", ["Rectm", "Recctum", "rectum_opt_3mm"])
def test_a_misspelling_and_a_longer_name_are_proposed(name: str) -> None:
    names = [other for other in PELVIC_BASE if other != "Rectum"] + [name]
    with pytest.raises(MappingError, match=f"Nearest: {name}"):
        map_structures(names, PELVIS)


def test_an_empty_structure_is_never_proposed() -> None:
    names = [other for other in PELVIC_BASE if other != "Rectum"] + ["Rectm"]
    with pytest.raises(MappingError) as caught:
        map_structures(names, PELVIS, empty=["Rectm"])
    assert "Nearest" not in str(caught.value)


@pytest.mark.parametrize("target", ["PTV", "PTV70", "PTV_45Gy"])
def test_the_organs_tell_the_body_site_whatever_the_target_is_called(target: str) -> None:
    names = [target, *TOTAL_SEGMENTATOR.split()]
    assert fitting_protocol(names, required=()).id == "pelvis"
    with pytest.raises(MappingError, match="Rectum"):  # not: the head-and-neck model instead
        fitting_protocol(names)


@pytest.mark.parametrize("names", [["PTV"], ["PTV70"], ["PTV1", "SpinalCord"], ["PTV", "Liver"]])
def test_structures_that_tell_no_body_site_are_refused(names: list[str]) -> None:
    with pytest.raises(NoProtocolError, match="body site"):
        fitting_protocol(names)


def test_a_channel_mapped_by_hand_tells_the_protocol() -> None:
    assert fitting_protocol(["target", "cord"], {"PTV70": "target"}).id == "openkbp"


@pytest.mark.parametrize(
    ("names", "protocol"),
    [(["PTV70", "SpinalCord"], "openkbp"), (["PTV", "Body", "SpinalCord"], "pelvis")],
)
def test_of_as_many_organs_the_channels_own_names_decide(names: list[str], protocol: str) -> None:
    assert fitting_protocol(names, required=()).id == protocol
