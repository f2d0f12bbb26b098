"""The table of plans: a line that was printed is read back as the record that it states."""

from __future__ import annotations

from benchmarks.planning import _line, _median, printed_records

TABLE = """\
case                 beams         fluence            plan  recomputed  mean Gy
                                  3 %, 2 %        3 %, 2 %         3 %
plan_61_0000_9_0        30     94.2   82.5     93.4   80.6       100.0    +0.29    0.58     1       0    397    589    176   6.5
plan_61_0001_9_0        30     96.7   86.6     96.8   86.5       100.0    +0.24    0.46     0       0    376    523    159   6.5
median                  30     95.5   84.6     95.1   83.5       100.0    +0.27    0.52     0       0    386    556    168   6.5
"""  # noqa: E501 - as it is printed


def test_printed_lines_are_read_back_and_count_in_the_median() -> None:
    records = printed_records(TABLE)
    assert list(records) == ["plan_61_0000_9_0", "plan_61_0001_9_0"]
    printed = TABLE.splitlines()
    assert [_line(record) for record in records.values()] == printed[2:4]
    further = {**records["plan_61_0000_9_0"], "statement": "of a plan just made", "case": "new"}
    median = _median([*records.values(), further])
    assert median["gamma"]["plan"] == {"3%/3mm": 93.4, "2%/2mm": 80.6}
    assert median["goals_lost"] == 1 and "statement" not in median
