"""Plugins: how they are found, why one is off, what the registry answers. Distributions here are real ones, written to a folder."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from textwrap import dedent

import kubeup_core
import pytest
from kubeup_core import (
    CONTRACT,
    BaseMachines,
    Capabilities,
    Context,
    Identity,
    MachineState,
    Mark,
    NotFound,
    Offer,
    Phase,
    Ref,
    Scope,
    SecretRef,
    Snapshot,
    Suppliers,
    Template,
    plugins,
    supplier,
)
from kubeup_core.errors import Denied
from kubeup_core.plugin_config import model_faults, secret_refs, validate
from kubeup_core.plugins import BadBuild, InvalidConfig, NotInstalled, Plugins, ProviderType, SwitchedOff, discover, load_file
from kubeup_core.trace import traced
from pydantic import BaseModel, ConfigDict, Field, SecretStr

GOOD = """
    from pydantic import BaseModel, ConfigDict
    from kubeup_core import SecretRef, hookimpl

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        region: str = "eu"

    class Overrides(BaseModel):
        model_config = ConfigDict(extra="forbid")
        size: int = 1

    def build(config, context):
        return None

    @hookimpl
    def kubeup_register_providers(register):
        register.provider(type="TYPE", config=Config, overrides=Overrides, build=build)
"""
_numbers = count()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(distribution, source, type): a distribution with one entry point; returns a function that discovers all so far."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def put(distribution: str, source: str | None = GOOD, type: str = "toy", version: str = "1.2"):
        module = f"plugin_under_test_{next(_numbers)}"
        if source is not None:
            (tmp_path / f"{module}.py").write_text(dedent(source).replace("TYPE", type))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kubeup]\n{type} = {module}\n")
        return lambda: discover(found=[p for d in distributions(path=[str(tmp_path)]) for p in d.entry_points])

    yield put
    for name in set(sys.modules) - before:
        if name.startswith(("plugin_under_test", "kubeup_plugin")):
            del sys.modules[name]


def broken(found: Plugins) -> plugins.BrokenPlugin:
    assert len(found.broken) == 1, found
    return found.broken[0]


# -- discovery


def test_a_plugin_is_found_by_its_entry_point(install):
    found = install("kubeup-toy")()
    toy = found.find("toy")
    assert (toy.type, toy.distribution, toy.version, toy.contract) == ("toy", "kubeup-toy", "1.2", CONTRACT)
    assert found.broken == ()


def test_there_is_no_default_list():
    assert discover(found=[]).providers == {}


def test_our_own_plugins_come_by_entry_points_like_everybodys():
    names = {(p.name, p.value) for p in plugins.entry_points(group="kubeup")}
    assert ("sim", "kubeup_sim") in names


def test_a_file_is_a_plugin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(dedent(GOOD).replace("TYPE", "mine"))
    found = discover([file], found=[])
    assert found.find("mine").distribution == str(file)


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.py", "no such file"), ("mine.txt", "not a Python file"), ("bad.py", "SyntaxError")]
)
def test_a_file_that_cannot_be_loaded_is_named(tmp_path, name, reason):
    file = tmp_path / name
    if name != "missing.py":
        file.write_text("def (:")
    off = broken(discover([file], found=[]))
    assert off.name == str(file)
    assert reason in off.reason
    assert off.remedy


def test_load_file_gives_the_module_and_raises_what_the_file_raises(tmp_path):
    (tmp_path / "a.py").write_text("VALUE = 7")
    (tmp_path / "b.py").write_text("raise KeyError('boom')")
    assert load_file(tmp_path / "a.py").VALUE == 7
    with pytest.raises(KeyError):
        load_file(tmp_path / "b.py")


# -- broken plugins are off, named, and stop nobody


@pytest.mark.parametrize(
    ("source", "reason", "remedy"),
    [
        ("import no_such_library_here", "cannot be imported: ModuleNotFoundError", "no_such_library_here"),
        ("raise RuntimeError('boom')", "RuntimeError: boom", "kubeup-bad"),
        ("import sys; sys.exit(3)", "SystemExit", "kubeup-bad"),
        ("X = 1", "registers nothing", "call register.provider"),
        ("def kubeup_register_providers(register): pass", "registers nothing", "put @kubeup_core.hookimpl above"),
        (GOOD.replace("@hookimpl", "").replace("register.provider", "None and register.provider"), "nothing", "hookimpl"),
        (
            GOOD.replace("kubeup_register_providers", "kubeup_regster_providers"),
            "no hook kubeup_regster_providers",
            "did you mean",
        ),
        (GOOD.replace("providers(register)", "providers(registry)"), "wrong arguments", "kubeup_register_providers(register)"),
        (GOOD.replace('extra="forbid"', 'extra="allow"', 1), "config: Config accepts unknown fields", "kubeup-bad"),
        (GOOD.replace("size: int = 1", "model_config = {}"), "overrides: Overrides accepts unknown fields", "kubeup-bad"),
        (GOOD.replace("config=Config", "config=dict"), "config is dict, not a pydantic model", "kubeup-bad"),
        (GOOD.replace("build=build", "build=None"), "build is not callable", "kubeup-bad"),
        (GOOD.replace("TYPE", "Not A Label"), "not a DNS label", "kubeup-bad"),
        (GOOD.replace("overrides=Overrides, ", ""), "registering failed: TypeError", "kubeup-bad"),
        (GOOD.replace('region: str = "eu"', "password: str"), "password sounds like a secret", "kubeup-bad"),
        (GOOD + "    register.provider(type='TYPE', config=Config, overrides=Overrides, build=build)\n", "twice", "kubeup-bad"),
        (GOOD + "    raise ValueError('late')\n", "registering failed: ValueError: late", "kubeup-bad"),
        ("KUBEUP_CONTRACT = 99\n" + dedent(GOOD), "written for contract 99", "upgrade kubeup"),
        ("KUBEUP_CONTRACT = -1\n" + dedent(GOOD), "written for contract -1", "upgrade the plugin"),
        ("KUBEUP_CONTRACT = 'one'\n" + dedent(GOOD), "not a number", "KUBEUP_CONTRACT = 1"),
    ],
)
def test_a_broken_plugin_is_off_with_a_reason_and_stops_nobody(install, source, reason, remedy):
    if source.startswith("\n") and "    register.provider(type='TYPE'" in source:
        source = source.replace("    register.provider(type='TYPE'", "        register.provider(type='TYPE'")
    source = source.replace("\n    raise ValueError", "\n        raise ValueError")
    install("kubeup-good", type="good")
    found = install("kubeup-bad", source, type="bad")()
    off = broken(found)
    assert (off.distribution, off.version, off.name) == ("kubeup-bad", "1.2", "bad")
    assert reason in off.reason
    assert remedy in off.remedy
    assert set(found.providers) == {"good"}


def test_a_type_that_two_distributions_register_stays_with_the_first_and_both_are_named(install):
    install("kubeup-a", type="toy")
    found = install("kubeup-b", type="toy")()
    off = broken(found)
    assert found.find("toy").distribution == "kubeup-a"
    assert off.distribution == "kubeup-b"
    assert "kubeup-a 1.2" in off.reason
    assert "kubeup-a" in off.remedy
    assert "kubeup-b" in off.remedy


def test_a_plugin_at_fault_leaves_none_of_its_types_behind(install):
    more = "        register.provider(type='other', config=dict, overrides=Overrides, build=build)\n"
    found = install("kubeup-toy", GOOD + more)()
    assert found.providers == {}
    assert "type other" in broken(found).reason


def test_the_former_contract_is_accepted_and_older_ones_are_not(install, monkeypatch):
    monkeypatch.setattr(plugins, "CONTRACT", 3)
    install("kubeup-two", "KUBEUP_CONTRACT = 2\n" + dedent(GOOD), type="two")
    install("kubeup-three", type="three")
    found = install("kubeup-one", "KUBEUP_CONTRACT = 1\n" + dedent(GOOD), type="one")()
    assert {name: p.contract for name, p in found.providers.items()}["two"] == 2
    assert set(found.providers) == {"two", "three"}
    assert "contract 1, this kubeup knows 2 to 3" in broken(found).reason


# -- look-ups


def test_a_type_that_is_not_installed_gives_the_install_line_of_this_interpreter(install):
    with pytest.raises(NotInstalled) as error:
        install("kubeup-toy")().find("cloud9")
    assert "(installed: toy)" in error.value.message
    assert error.value.remedy == f"install it: {sys.executable} -m pip install kubeup-cloud9"


def test_a_type_that_is_almost_installed_is_suggested_instead(install):
    with pytest.raises(NotInstalled) as error:
        install("kubeup-docker", type="docker")().find("dokcer")
    assert error.value.remedy == "did you mean docker?"


def test_a_type_that_is_no_name_is_never_put_into_a_command():
    with pytest.raises(NotInstalled) as error:
        Plugins().find("x; rm -rf /")
    assert "pip" not in error.value.remedy


def test_a_type_whose_plugin_is_off_says_why(install):
    with pytest.raises(SwitchedOff) as error:
        install("kubeup-bad", "raise RuntimeError('boom')", type="bad")().find("bad")
    assert "kubeup-bad 1.2" in error.value.message
    assert "boom" in error.value.message
    assert error.value.remedy


def test_types_whose_config_needs_no_field_have_a_provider_of_their_own_name(install):
    install("kubeup-free", type="free")
    found = install("kubeup-bound", GOOD.replace('region: str = "eu"', "region: str"), type="bound")()
    assert found.implicit() == ("free",)


# -- configs


class Account(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    password: SecretRef
    port: int = 22


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    region: str
    account: Account | None = None
    accounts: list[Account] = Field(default_factory=list)
    token: SecretRef | None = None
    by_name: dict[str, SecretRef] = Field(default_factory=dict, alias="byName")


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


def provider(build=lambda config, context: None, config=Config) -> ProviderType:
    return ProviderType(
        type="toy", config=config, overrides=Nothing, build=build, distribution="kubeup-toy", version="1.2", contract=1
    )


def problems(value, path="spec.config"):
    with pytest.raises(InvalidConfig) as error:
        Plugins({"toy": provider()}).config("toy", value)
    return {p.path: p for p in error.value.problems}


def test_a_good_config_becomes_the_plugins_own_model():
    assert Plugins({"toy": provider()}).config("toy", {"region": "eu"}) == Config(region="eu")


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({}, "spec.config.region", "region is required"),
        ({"region": 3}, "spec.config.region", "valid string"),
        ({"region": "eu", "account": {"port": "x", "password": {}}}, "spec.config.account.port", "valid integer"),
        ({"region": "eu", "accounts": [{}]}, "spec.config.accounts[0].password", "password is required"),
    ],
)
def test_a_bad_config_is_told_with_the_path_of_the_field(value, path, message):
    assert message in problems(value)[path].message


def test_an_unknown_field_of_a_config_is_told_with_the_nearest_right_name():
    found = problems({"region": "eu", "regoin": "us", "accounts": [{"passwrd": 1}]})
    assert found["spec.config.regoin"].message == "unknown field regoin"
    assert found["spec.config.regoin"].remedy == "did you mean region?"
    assert found["spec.config.accounts[0].passwrd"].remedy == "did you mean password?"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"token": "hunter2"}, "spec.config.token"),
        ({"account": {"password": "hunter2"}}, "spec.config.account.password"),
        ({"accounts": [{"password": "hunter2"}]}, "spec.config.accounts[0].password"),
        ({"byName": {"a": "hunter2"}}, "spec.config.byName.a"),
    ],
)
def test_an_inline_secret_is_refused_with_the_command_that_makes_a_secret_and_never_shown(value, path):
    found = problems({"region": "eu", **value})
    assert set(found) == {path}
    assert found[path].message == "secrets are never written into a config"
    assert "kubectl create secret generic" in found[path].remedy
    assert "namespace: NAMESPACE" in found[path].remedy
    assert "hunter2" not in repr(found)


def test_overrides_are_checked_with_their_own_path():
    with pytest.raises(InvalidConfig) as error:
        Plugins({"toy": provider()}).overrides("toy", {"vpc": "x"})
    assert [p.path for p in error.value.problems] == ["spec.overrides.toy.vpc"]
    assert "known fields: none" in str(error.value)


def test_every_secret_ref_of_a_config_is_found_however_deep():
    ref = {"namespace": "n", "name": "s"}
    config = Config.model_validate(
        {
            "region": "eu",
            "account": {"password": {**ref, "key": "a"}},
            "accounts": [{"password": {**ref, "key": "b"}}],
            "token": {**ref, "key": "c"},
            "byName": {"x": {**ref, "key": "d"}},
        }
    )
    assert [r.path for r in secret_refs(config)] == ["n/s/a", "n/s/b", "n/s/c", "n/s/d"]


@pytest.mark.parametrize(
    ("name", "annotation", "refused"),
    [
        ("password", str, True),
        ("api_token", str | None, True),
        ("secretKey", str, True),
        ("secret_key", SecretStr, True),
        ("tokens_by_name", dict[str, str], False),
        ("credentials", dict[str, str], True),
        ("password", SecretRef, False),
        ("token_life", int, False),
        ("secret_name", str, False),
        ("ssh_key_path", str, False),
        ("token", int, False),
    ],
)
def test_a_config_field_that_sounds_like_a_secret_must_be_a_secret_ref(name, annotation, refused):
    model = type("Model", (Nothing,), {"__annotations__": {name: annotation}})
    assert bool(model_faults(model, "config")) == refused


def test_a_lax_model_inside_a_strict_one_is_refused():
    lax = type("Lax", (BaseModel,), {"__annotations__": {"x": int}})
    model = type("Model", (Nothing,), {"__annotations__": {"inner": list[lax]}})
    assert model_faults(model, "config") == [
        'config.inner: Lax accepts unknown fields; it needs model_config = ConfigDict(extra="forbid")'
    ]


def test_validate_never_repeats_the_value():
    result = validate(Config, {"region": ["hunter2"], "hunter": 1}, "spec.config")
    assert "hunter2" not in repr(result)


# -- builds


class OneMachine(BaseMachines):
    def launch(self, launch):
        return ()

    def observe(self, scope):
        mark = Mark(installation="i", cluster="c", cluster_name="c", kind="Machine", maker="m")
        ref = Ref(id="m-1", mark=mark)
        return Snapshot(items=(MachineState(ref=ref, phase=Phase.RUNNING, place="", name="m", machine_type="t"),))

    def delete(self, refs):
        raise Denied("the token s3cr3t-token is not allowed")

    def execute(self, ref, script, stdin, timeout):
        yield b"output"
        yield 0


def suppliers(**changes) -> Suppliers:
    return replace(
        Suppliers(identity=Identity(key="k", principal="p"), capabilities=Capabilities(), machines=OneMachine()), **changes
    )


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "build gave NoneType, not Suppliers"),
        (suppliers(identity=Identity(key="", principal="p")), "identity has no key"),
        (suppliers(identity=None), "identity has no key"),
        (suppliers(capabilities={}), "capabilities is not a Capabilities"),
        (suppliers(machines=object()), "machines lacks check, offers, launch"),
        (suppliers(machines=None), "machines lacks"),
        (suppliers(networks=object()), "networks lacks ensure, observe, delete"),
        (suppliers(close=None), "close is not callable"),
    ],
)
def test_a_build_that_gives_the_wrong_thing_names_the_distribution(result, reason):
    with pytest.raises(BadBuild) as error:
        provider(lambda config, context: result).make(Config(region="eu"), Context(installation="i"))
    assert "kubeup-toy 1.2" in error.value.message
    assert reason in error.value.message


def test_what_a_build_raises_goes_up_as_it_is():
    def build(config, context):
        raise Denied("no credentials")

    with pytest.raises(Denied):
        provider(build).make(Config(region="eu"), Context(installation="i"))


# -- the trace


def test_the_trace_prints_each_call_with_result_and_time_and_masks_secrets():
    out, ticks = io.StringIO(), iter(range(100))
    traced_ = traced(suppliers(), "toy", ["s3cr3t-token"], out, lambda: next(ticks) / 4)
    ref = traced_.machines.observe(Scope(installation="i")).items[0].ref
    with pytest.raises(Denied):
        traced_.machines.delete([ref])
    assert list(traced_.machines.execute(ref, "echo s3cr3t-token", b"stdin-secret", 5)) == [b"output", 0]
    traced_.probe()
    lines = out.getvalue().splitlines()
    assert [line.split("(")[0] for line in lines] == [
        f"kubeup trace: toy {name}" for name in ("machines.observe", "machines.delete", "machines.execute", "probe")
    ]
    assert all(line.endswith("0.250s") for line in lines)
    assert "Denied('the token *** is not allowed'" in lines[1]
    assert "6 bytes, exit code 0" in lines[2]
    assert "s3cr3t" not in out.getvalue()
    assert "stdin-secret" not in out.getvalue()


def test_the_trace_leaves_out_user_data():
    out = io.StringIO()
    want = Template(cpu=1, memory=1, disk=1, arch="", image="i")
    offer = Offer(place="", machine_type="", arch="", spot=False, cpu=1, memory=1, image="i")
    mark = Mark(installation="i", cluster="c", cluster_name="c", kind="Machine", maker="m")
    launch = supplier.Launch(
        mark=mark, token="t", template=want, offer=offer, role="r", members=(), user_data=b"join-token-1234"
    )
    traced(suppliers(), "toy", (), out).machines.launch(launch)
    assert "machines.launch(Launch(" in out.getvalue()
    assert "join-token" not in out.getvalue()


@pytest.mark.parametrize(("value", "printed"), [("1", True), ("0", False), ("", False)])
def test_tracing_is_switched_by_the_environment(monkeypatch, capsys, value, printed):
    monkeypatch.setenv("KUBEUP_TRACE", value)
    made = provider(lambda config, context: suppliers()).make(Config(region="eu"), Context(installation="i"))
    made.machines.observe(Scope(installation="i"))
    assert ("kubeup trace: toy machines.observe" in capsys.readouterr().err) == printed


# -- the face


def test_the_public_surface_of_the_core_is_exactly_this():
    assert kubeup_core.__all__ == sorted(kubeup_core.__all__)
    assert kubeup_core.__all__ == [
        "Access",
        "BaseMachines",
        "Blocked",
        "BootstrapperRegister",
        "CONTRACT",
        "Capabilities",
        "Context",
        "Data",
        "Denied",
        "EVERY",
        "ExecutorRegister",
        "Host",
        "Identity",
        "InvalidSpec",
        "LBMember",
        "Launch",
        "Listener",
        "LoadBalancerSpec",
        "LoadBalancerState",
        "LoadBalancerSupplier",
        "MachineState",
        "MachineSupplier",
        "Mark",
        "Member",
        "NetworkSpec",
        "NetworkState",
        "NetworkSupplier",
        "NoCapacity",
        "NotFound",
        "NotReady",
        "Offer",
        "OneByOne",
        "Outcome",
        "Phase",
        "Place",
        "Problem",
        "ProviderRegister",
        "Ref",
        "Result",
        "Rule",
        "Scope",
        "SecretRef",
        "SlotState",
        "Snapshot",
        "SnapshotStore",
        "SnapshotStoreRegister",
        "StoredSnapshot",
        "SupplierError",
        "Suppliers",
        "Taken",
        "Template",
        "Unknown",
        "VolumeSpec",
        "VolumeState",
        "VolumeSupplier",
        "hookimpl",
    ]
    assert all(getattr(kubeup_core, name) is not None for name in kubeup_core.__all__)
    with pytest.raises(AttributeError):
        _ = kubeup_core.nothing_of_the_kind


def test_everything_of_the_contract_is_on_the_face():
    public = {
        n for n, v in vars(supplier).items() if not n.startswith("_") and getattr(v, "__module__", "") == supplier.__name__
    }
    assert public - set(kubeup_core.__all__) == {"T"}  # a type variable
    assert issubclass(NotFound, kubeup_core.SupplierError)


def test_importing_the_face_and_the_registry_loads_no_server_and_no_database():
    code = (
        "import kubeup_core, sys; heavy = {'pydantic', 'pluggy'} & set(sys.modules); assert not heavy, heavy\n"
        "import kubeup_core.plugins\n"
        "heavy = {'fastapi', 'httpx', 'uvicorn', 'sqlite3', 'pytest', 'starlette'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
