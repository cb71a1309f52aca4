"""What is drawn while waiting: never higher than the terminal, everything that matters first; plain lines without noise."""

from typing import Any

import pytest
from kubeup.follow import LONGEST, Key, Picture, Row, pause, ready, title
from kubeup.screen import Lines, block


def tell(key: Key, obj: Any) -> tuple[bool, str]:
    return (True, "Ready") if obj["up"] else (False, obj["says"])


def machine(n: int, up: bool) -> Row:
    return Row("demo", "web", f"web-{n}", "Ready" if up else "Pending", up, f"10.0.0.{n}" if up else "", "" if up else "boots")


def picture(objects: int, machines: int, up: int = 0) -> Picture:
    wanted = {("NodePool", "default", f"p{n}"): {"up": n > 0, "says": "0 of 3"} for n in range(objects)}
    return Picture(wanted, [machine(n, n < up) for n in range(machines)])


def drawn(p: Picture, height: int, passed: float | None = 3.0) -> list[str]:
    return ["".join(text for text, _ in line) for line in block(p, tell, passed, height)]


@pytest.mark.parametrize("height", [5, 10, 23, 39])
@pytest.mark.parametrize("machines", [0, 3, 30, 300])
@pytest.mark.parametrize("objects", [1, 4, 60])
def test_a_block_fits_the_terminal_and_ends_with_the_time(objects: int, machines: int, height: int) -> None:
    lines = drawn(picture(objects, machines), height)
    assert len(lines) <= height
    assert lines[-1].startswith("3s")
    assert any("nodepool/p0" in line for line in lines), "what is not done comes first"


def test_three_machines_are_shown_with_their_state() -> None:
    assert [line.rstrip() for line in drawn(picture(1, 3, up=2), 23)] == [
        "· nodepool/p0  0 of 3",
        "",
        "  POOL   MACHINE   STATE     ADDRESS",
        "  web    web-0     Ready     10.0.0.0",
        "  web    web-1     Ready     10.0.0.1",
        "  web    web-2     Pending              boots",
        "3s  3 machines, 2 Ready",
    ]


def test_of_three_hundred_those_that_are_not_ready_are_named_and_the_rest_counted() -> None:
    lines = drawn(picture(1, 300, up=290), 23)
    assert [line.split()[1] for line in lines if line.startswith("  web")] == [f"web-{n}" for n in range(290, 300)]
    assert "  ... and 290 more: 290 Ready" in lines
    assert drawn(picture(1, 300, up=300), 23, None) == ["· nodepool/p0  0 of 3"], "at the end there is nothing left to count"


def test_plain_lines_say_each_thing_once_and_not_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(tell)
    for second, says in ((0.0, "a"), (0.5, "a"), (1.0, "b"), (1.5, "c"), (2.5, "c"), (3.0, "d")):
        lines.show(Picture({("NodePool", "default", "p"): {"up": False, "says": says}}), second)
    lines.last(Picture({("NodePool", "default", "p"): {"up": True, "says": ""}}), 3.1)
    assert capsys.readouterr().out.splitlines() == [f"nodepool/p: {text}" for text in ("a", "c", "Ready")]


def test_plain_lines_name_few_machines_and_count_many(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(tell)
    lines.show(picture(0, 3, up=1), 0)
    assert capsys.readouterr().out == "machine/web-0: Ready 10.0.0.0\n"
    lines.show(picture(0, 300, up=1), 3)
    assert capsys.readouterr().out == "machines: 300 machines, 1 Ready\n"


def test_looks_become_rarer_with_time_and_with_the_work_they_are() -> None:
    assert pause(1, 0.001) == 0.25
    assert pause(60, 0.001) == 1
    assert pause(1, 0.2) == pytest.approx(1.6)
    assert pause(1000, 10) == LONGEST


def test_ready_is_only_what_was_seen_in_its_last_form() -> None:
    obj = {
        "kind": "NodePool", "metadata": {"generation": 2},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]},
    }  # fmt: skip
    assert not ready(obj)
    obj["status"]["conditions"][0]["observedGeneration"] = 2  # type: ignore[index]
    assert ready(obj)


def test_titles_leave_out_the_usual_namespace() -> None:
    assert title(("Cluster", "default", "a")) == "cluster/a"
    assert title(("Cluster", "team", "a")) == "cluster/team/a"
    assert title(("Provider", "", "a")) == "provider/a"
