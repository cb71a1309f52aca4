"""Starting the command: quick, lazy, and clear about what it does not know."""

import subprocess
import sys
from typing import Any

import pytest

HEAVY = ("fastapi", "boto3", "httpx", "docker", "uvicorn", "pydantic", "sqlite3", "rich")


def run(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "kubeup", *args], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("args", ["['--help']", "['version']", "['completion', 'bash']", "['--state', '/nowhere', 'status']"])
def test_starting_imports_nothing_heavy(args: str) -> None:
    code = f"""
import sys
from kubeup.main import main
try:
    main({args})
except SystemExit as done:
    assert not done.code, done.code
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_asking_a_server_imports_no_models_either(home: Any) -> None:
    code = f"""
import sys
from kubeup.main import main
try:
    main(["--state", {str(home.state)!r}, "get", "providers"])
except SystemExit as done:
    assert not done.code, done.code
print([m for m in {(*HEAVY, "kubeup_core", "yaml", "importlib.metadata")!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "yard" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_names_every_command_with_what_it_does() -> None:
    from kubeup.main import COMMANDS

    text = run("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)


def test_every_command_has_help() -> None:
    import importlib

    from kubeup.main import COMMANDS

    for name in COMMANDS:
        command = importlib.import_module(f"kubeup.commands.{name}").command
        assert command.name == name
        assert command.help


def test_an_unknown_command_is_met_with_the_nearest_one() -> None:
    done = run("staus")
    assert done.returncode == 2
    assert "Did you mean 'status'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_for_their_shell(shell: str) -> None:
    assert "_KUBEUP_COMPLETE" in run("completion", shell).stdout


def test_init_writes_a_file_that_passes_every_check(tmp_path: object) -> None:
    from kubeup.checks import check
    from kubeup.commands.init import render
    from kubeup.manifests import parse

    for provider in ("sim", "docker"):
        documents = check(parse(render(provider, "demo", 3, "x.yaml"), "x.yaml"), "default")
        assert [d.kind for d in documents] == ["Cluster", "NodePool"]


def test_init_with_kubernetes_takes_the_newest_version_and_warns_where_that_is_pretended() -> None:
    from kubeup_core.plugins import discover

    done = run("init", "docker", "--kubernetes")
    assert f"version: {discover().bootstrapper('kubeadm').build().newest()}" in done.stdout
    assert done.stderr == ""
    assert "simulated machines run no Kubernetes" in run("init", "sim", "--kubernetes").stderr


def test_comments_of_a_file_stand_one_below_the_other() -> None:
    lines = [line for line in run("init", "docker", "--kubernetes").stdout.splitlines() if not line.strip().startswith("#")]
    assert len({line.index(" # ") for line in lines if " # " in line}) == 1


def test_init_of_what_is_not_installed_gives_the_install_line() -> None:
    done = run("init", "mars")
    assert done.returncode == 3
    assert "pip install kubeup-mars" in done.stderr
