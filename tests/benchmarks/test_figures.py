from benchmarks.figures import p95, row


def test_the_worst_of_few_counts() -> None:
    assert p95([1.0, 9.0, 2.0, 3.0]) == 9.0


def test_of_twenty_one_may_be_worse() -> None:
    assert p95([float(i) for i in range(20)]) == 18.0


def test_a_row_says_whether_the_median_meets_its_goal() -> None:
    assert row("speed", [1.0, 2.0, 3.0], ".0f", least=2).endswith("≥ 2: met")
    assert row("time", [1.0, 2.0, 3.0], ".0f", " s", most=1).endswith("≤ 1 s: open")
