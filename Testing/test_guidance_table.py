"""The statistics and the verdict of the experiment on dose guidance."""

from __future__ import annotations

import pytest

from benchmarks.guidance_table import ARMS, FIGURES, holm, of_patients, table, verdict


def records(dice: float, reading: float, patients: int = 8) -> list[dict]:
    """Patients of two organs; in the second one nothing was found in half of them."""
    made = []
    for number in range(patients):
        one = {"dice": dice, "reading_gy": reading * (1 + number), "guide_gy": 0.5}
        other = {"dice": dice, "reading_gy": None if number % 2 else reading * (1 + number)}
        made.append({"case": f"case {number}", "organs": {"Bladder": one, "Rectum": other}})
    return made


def test_p_values_are_adjusted_step_by_step() -> None:
    adjusted = holm([0.04, 0.01, None, 0.03])
    assert adjusted[2] is None
    assert [adjusted[i] for i in (1, 3, 0)] == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_a_patients_figure_is_the_mean_over_its_organs_and_seeds() -> None:
    arms = {"A": [records(0.8, 1.0), records(0.9, 3.0)], "B": [records(0.7, 2.0)] * 2}
    found = of_patients(arms, "reading_gy")
    assert found["A"]["case 0"] == pytest.approx(2.0) == found["B"]["case 0"]
    assert found["A"]["case 1"] == pytest.approx(4.0)
    assert of_patients(arms, "guide_gy")["A"]["case 3"] == 0.5
    assert not any(of_patients(arms, "replanned_gy").values())


def test_an_organ_that_one_arm_did_not_find_counts_for_none() -> None:
    arms = {"A": [records(0.9, 1.0, 2)], "B": [records(0.9, 1.0, 2)]}
    arms["A"][0][0]["organs"]["Bladder"]["reading_gy"] = 100.0
    assert of_patients(arms, "reading_gy")["A"]["case 0"] == pytest.approx(50.5)
    arms["B"][0][0]["organs"]["Bladder"]["reading_gy"] = None
    assert of_patients(arms, "reading_gy")["A"]["case 0"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("guided", "weighted", "helps"),
    [
        ((0.900, 0.90), (0.900, 1.00), True),
        ((0.900, 0.91), (0.900, 1.00), False),  # 9 % against A
        ((0.900, 0.90), (0.900, 0.99), False),  # 9 % against C
        ((0.894, 0.50), (0.900, 1.00), False),  # 0.006 of Dice lost
        ((0.896, 0.50), (0.900, 1.00), True),
    ],
)
def test_guidance_helps_only_as_declared_before(
    guided: tuple, weighted: tuple, helps: bool
) -> None:
    arms = zip(ARMS, ((0.900, 1.00), guided, weighted), strict=True)
    means = {arm: {"dice": dice, "reading_gy": reading} for arm, (dice, reading) in arms}
    assert verdict(means) == helps
    assert verdict({arm: {"dice": 0.9} for arm in ARMS}) is None


def test_the_table_states_every_figure_that_there_is_and_the_verdict() -> None:
    arms = {"A": [records(0.9, 1.0)], "B": [records(0.9, 0.8)], "C": [records(0.9, 1.0)]}
    text = table(arms, {}, equal=True, trained="300 steps")
    assert "8 unseen patients, 1 seeds, 300 steps" in text and "D equals A bit for bit" in text
    assert FIGURES["guide_gy"] in text and FIGURES["replanned_gy"] not in text
    assert "guidance helps." in text and "| organs not found | 4 | 4 | 4 |" in text
    row = next(line for line in text.splitlines() if "reading, Gy | B − A" in line)
    assert "-0.9000" in row  # a fifth of the mean of 1 … 8
    plans = {arm: records(0.9, 1.0, 6) for arm in ARMS}
    for each in plans.values():
        for record in each:
            record["organs"] = {"Bladder": {"replanned_gy": 2.0}}
    text = table(arms, plans, equal=False, trained="300 steps")
    assert f"{FIGURES['replanned_gy']} | 2.000" in text and "DIFFERS FROM A" in text
