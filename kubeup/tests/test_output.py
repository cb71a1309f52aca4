"""Small words that people read: ages, counts, tables."""

from datetime import UTC, datetime

import pytest
from kubeup.output import age, duration, plural, server_table, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (60, "1m"), (200, "3m20s"), (3600, "1h"), (7300, "2h1m"), (200_000, "2d7h"), (-5, "0s")],
)
def test_durations_read_as_kubectl_prints_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_age_is_counted_from_a_timestamp() -> None:
    assert age("2026-01-01T00:00:00Z", datetime(2026, 1, 1, 0, 3, 20, tzinfo=UTC)) == "3m20s"
    assert age(None) == ""


def test_counts_have_the_right_word() -> None:
    assert [plural(1, "machine"), plural(2, "machine"), plural(0, "entry")] == ["1 machine", "2 machines", "0 entries"]


def test_columns_are_aligned_and_absent_values_blank() -> None:
    assert table(["a", "long"], [["x", None], [None, 3]]).splitlines() == ["A   LONG", "x", "    3"]


def test_a_wide_column_shows_only_when_it_is_asked_for() -> None:
    answer = {
        "columnDefinitions": [{"name": "Name"}, {"name": "Id", "priority": 1}],
        "rows": [{"cells": ["a", "i-1"], "object": {"metadata": {"namespace": "team"}}}],
    }
    assert server_table(answer).split() == ["NAME", "a"]
    assert server_table(answer, wide=True, namespaces=True).split() == ["NAMESPACE", "NAME", "ID", "team", "a", "i-1"]
