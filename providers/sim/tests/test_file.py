"""The account in its file: it outlives processes, and many may use it at once."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.supplier import Scope
from kubeup_sim import open_cloud
from kubeup_sim.cloud import Settings
from kubeup_sim.cloud.records import Account, Machine
from kubeup_sim.cloud.state import State

LAUNCH = """
import sys
from kubeup_core.supplier import Context, Launch, Mark, Member, Template
from kubeup_sim import SimConfig, build
file, create, token = sys.argv[1:]
home = build(SimConfig.model_validate({"file": file, "create": create}), Context(installation="home"))
template = Template(cpu=2, memory=4 << 30, disk=1, arch="amd64", image="debian-12")
mark = Mark(installation="home", cluster="c", cluster_name="demo", kind="Machine", maker=token)
offer = home.machines.offers(template)[0]
members = tuple(Member(name=f"w-{i}") for i in range(5))
launch = Launch(mark=mark, token=token, template=template, offer=offer, role="worker", members=members)
print(*(r.id for r in home.machines.launch(launch)))
"""


def launch(file: Path, create: str = "single", token: str = "t-1") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, str(file), create, token]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_was_acknowledged_outlives_the_object_that_made_it(new_sim: Any, tmp_path: Path) -> None:
    first = new_sim(file=tmp_path / "a.db")
    home = first.build(settle=7, hosts=[])
    _, network = first.network(home)
    states = first.run(home, 3, network=network.data)
    _, volume = first.volume(home)
    balancer = home.load_balancers.ensure(first.balancer_spec(states))
    first.cloud.faults.add("throttle", operation="nothing")
    before = first.cloud.console.everything()
    first.cloud.close()
    second = new_sim(file=tmp_path / "a.db")
    second.clock.advance(first.clock.now() - second.clock.now())
    assert sorted(second.cloud.console.everything(), key=lambda line: line.id) == sorted(before, key=lambda line: line.id)
    again = second.build()
    assert again.capabilities.settle == 7
    assert second.seen(again, doubt=tuple(s.ref for s in states)) == states
    assert balancer.ref in {
        s.ref for s in again.load_balancers.observe(Scope(installation="home", doubt=(balancer.ref,))).items
    }
    assert volume.ref.id in {line.id for line in before}
    assert len(second.cloud.faults.all()) == 1


@pytest.mark.parametrize("create", ["single", "steps"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_killed_around_the_launch_leaves_what_its_repeat_finishes(
    new_sim: Any, tmp_path: Path, create: str, when: str
) -> None:
    file = tmp_path / "a.db"
    sim = new_sim(file=file)
    sim.cloud.faults.add("crash", operation="launch", when=when)
    killed = launch(file, create)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(sim.cloud.console.machines()) == (5 if when == "after" else 0)
    done = launch(file, create)
    ids, errors = done.communicate()
    assert done.returncode == 0, errors
    assert {line.id for line in sim.cloud.console.machines()} == set(ids.split())
    assert len(ids.split()) == 5


def test_processes_and_threads_may_launch_the_same_at_once(new_sim: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    processes = [launch(file) for _ in range(3)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    sim = new_sim(file=file)
    home = sim.build()
    request = sim.launch(home, 5)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(home.machines.launch(request))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(sim.cloud.console.machines()) == 10


def test_another_process_sees_a_change_at_once(new_sim: Any, tmp_path: Path) -> None:
    sim = new_sim(file=tmp_path / "a.db")
    home = sim.build()
    [state] = sim.run(home)
    other = State("default/sim-1", tmp_path / "a.db")
    with other.read():
        assert set(other.table(Machine)) == {state.ref.id}
    sim.cloud.console.stop(state.name)
    with other.read():
        assert other.table(Machine)[state.ref.id].stopped
    other.close()


def test_a_change_writes_its_own_rows_only(new_sim: Any, tmp_path: Path) -> None:
    sim = new_sim(file=tmp_path / "a.db")
    home = sim.build()
    states = sim.run(home, 100)
    with sqlite3.connect(tmp_path / "a.db") as db:
        (before,) = db.execute("SELECT max(seq) FROM rows").fetchone()
        home.machines.delete([states[0].ref])
        rows = db.execute("SELECT id FROM rows WHERE seq > ?", (before,)).fetchall()
    db.close()
    assert rows == [(states[0].ref.id,)]


def test_what_a_change_put_before_an_error_stays_and_what_an_interrupt_left_does_not(tmp_path: Path) -> None:
    state = State("a/b", tmp_path / "a.db")
    with pytest.raises(ValueError, match="refused"), state.write():
        state.put(Account(id="one"))
        raise ValueError("refused")
    with pytest.raises(KeyboardInterrupt), state.write():
        state.put(Account(id="two"))
        raise KeyboardInterrupt
    with state.read():
        assert set(state.table(Account)) == {"one"}
    state.close()


def test_the_file_is_the_owners_alone(new_sim: Any, tmp_path: Path) -> None:
    sim = new_sim(file=tmp_path / "deep" / "a.db")
    sim.build()
    assert stat.S_IMODE(os.stat(tmp_path / "deep" / "a.db").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "deep").st_mode) == 0o700


def test_a_file_of_a_newer_version_is_refused_and_left_alone(new_sim: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(RuntimeError, match=r"newer kubeup-sim .*upgrade"):
        new_sim(file=file).build()
    with sqlite3.connect(file) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
    db.close()


def test_accounts_and_regions_in_one_file_are_apart(new_sim: Any, tmp_path: Path) -> None:
    one, two = new_sim(file=tmp_path / "a.db"), new_sim(file=tmp_path / "a.db", account="two")
    [mine] = one.run(one.build())
    [theirs] = two.run(two.build())
    assert mine.ref.id != theirs.ref.id
    assert one.build().identity.key != two.build().identity.key
    assert len(one.cloud.console.machines()) == len(two.cloud.console.machines()) == 1


def test_the_default_file_is_in_the_data_home_or_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBEUP_SIM_FILE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for expected, account in ((tmp_path / "kubeup/sim/mine.db", "mine"), (tmp_path / "other.db", "theirs")):
        cloud = open_cloud(account=account)
        cloud.configure({"seed": 2})
        cloud.close()
        assert expected.exists()
        monkeypatch.setenv("KUBEUP_SIM_FILE", str(tmp_path / "other.db"))


def test_settings_that_are_not_named_stay_as_the_account_has_them(sim: Any) -> None:
    sim.build(settle=5, seed=9)
    sim.build("other", seed=10)
    with sim.cloud.state.read():
        assert sim.cloud.settings == Settings(settle=5, seed=10)
