"""Bad input, through the command: one clear error with file, line and field, a documented exit code, and nothing is changed."""

from typing import Any

import pytest

HEAD = "apiVersion: kubeup.dev/v1alpha1\n"
CLUSTER = HEAD + "kind: Cluster\nmetadata: {name: demo}\nspec:\n  provider: yard\n"
POOL = HEAD + "kind: NodePool\nmetadata: {name: web}\nspec:\n  cluster: demo\n"
PROVIDER = HEAD + "kind: Provider\nmetadata: {name: p}\nspec:\n  type: sim\n"

CASES = {
    "YAML that does not parse": ("a: [1, 2\nb: 3", "2:2", "not YAML"),
    "a duplicate key": (POOL + "  replicas: 1\n  replicas: 2\n", "7:3", '"replicas" stands twice'),
    "a version that YAML reads as a number": (CLUSTER + "  kubernetes: {version: 1.30}\n", "6", "spec.kubernetes.version"),
    "4GB of memory": (CLUSTER + "---\n" + POOL + "  machine:\n    memory: 4GB\n", "13", "spec.machine.memory"),
    "a bare 4 of memory": (CLUSTER + "---\n" + POOL + "  machine:\n    memory: 4\n", "13", '"4Gi"'),
    "an unknown kind": (HEAD + "kind: Clutser\nmetadata: {name: a}\n", "2", 'did you mean "Cluster"?'),
    "what runs in a Kubernetes cluster": ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "2", "apply it there"),
    "an unknown field": (CLUSTER + "---\n" + POOL + "  replica: 3\n", "12", '"replicas"'),
    "a wrong type": (CLUSTER + "---\n" + POOL + "  replicas: [3]\n", "12", "spec.replicas"),
    "a cluster that does not exist": (CLUSTER.replace("demo", "demos") + "---\n" + POOL, "11", 'did you mean "demos"?'),
    "a provider that does not exist": (CLUSTER.replace("yard", "yrad"), "5", 'did you mean "yard"?'),
    "a pool that does not exist": (
        CLUSTER + "---\n" + HEAD
        + "kind: Volume\nmetadata: {name: v}\nspec: {cluster: demo, size: 1Gi, attach: {pool: wbe, slot: 0}}\n",
        "10", "spec.attach.pool names the NodePool 'wbe'",
    ),
    "a machine that does not exist": (
        CLUSTER + "---\n" + HEAD + "kind: LoadBalancer\nmetadata: {name: l}\n"
        "spec: {cluster: demo, listeners: [{port: 80}], members: {machines: [web-0]}}\n",
        "10", "names the Machine 'web-0'",
    ),
    "a secret that does not exist": (
        PROVIDER + "  credentials: {source: secret, secretRef: {namespace: default, name: key}}\n", "6", "names the Secret 'key'",
    ),
    "a namespace that does not exist": (CLUSTER.replace("name: demo", "name: demo, namespace: team"), "3", "Namespace 'team'"),
    "a provider that is not installed": (PROVIDER.replace("sim", "mars"), "5", "pip install kubeup-mars"),
    "a bad provider config": (PROVIDER + "  config: {regoin: sim-2}\n", "6", 'did you mean region?'),
    "a bad value in a provider config": (PROVIDER + "  config: {batchLimit: 0}\n", "6", "spec.config.batchLimit"),
    "a name that is not a DNS label": (CLUSTER.replace("demo", "Demo_1"), "3", "cannot be a name"),
    "replicas below zero": (CLUSTER + "---\n" + POOL + "  replicas: -1\n", "12", "spec.replicas"),
    "replicas over the limit of the model": (CLUSTER + "---\n" + POOL + "  replicas: 2000000\n", "12", "spec.replicas"),
    "replicas over the limit of the Provider": (CLUSTER + "---\n" + POOL + "  replicas: 101\n", "12", "limits.machines is 100"),
    "overlapping CIDRs": (
        CLUSTER + "  network: {podCIDR: 10.0.0.0/8, serviceCIDR: 10.96.0.0/12}\n", "6", "overlaps spec.network.podCIDR",
    ),
    "the same object twice": (CLUSTER + "---\n" + CLUSTER, "9", "stands twice"),
    "no kind": (HEAD + "metadata: {name: a}\n", "1", "kind is missing"),
    "another apiVersion": (CLUSTER.replace("v1alpha1", "v2"), "1", "'kubeup.dev/v1alpha1'"),
    "a tab": ("kind: A\n\tb: 1\n", "2:1", "a tab"),
}  # fmt: skip


def everything(home: Any) -> list[tuple[str, str, str]]:
    kinds = ("providers", "clusters", "nodepools", "volumes", "loadbalancers", "secrets", "namespaces")
    found = [o["metadata"] for kind in kinds for o in home.json("get", kind, "-A")["items"]]
    return [(m["name"], m["uid"], str(m.get("generation"))) for m in found]


@pytest.mark.parametrize("command", ["up", "apply"])
@pytest.mark.parametrize("case", CASES)
def test_one_clear_error_and_nothing_is_changed(home: Any, case: str, command: str) -> None:
    text, where, says = CASES[case]
    file = home.write(text, name="bad.yaml")
    before = everything(home)
    done = home(command, "-f", file, code=3)
    (error,) = done.errors
    assert error.startswith(f"error: {file}:{where}: "), error
    assert says in error
    assert done.out == ""
    assert everything(home) == before


@pytest.mark.parametrize(
    "config",
    ["{password: hunter2}", "{token: hunter2}", "{account: default, apiKey: hunter2}", "{settings: {password: hunter2}}"],
)
def test_an_inline_secret_is_refused_and_not_repeated(home: Any, config: str) -> None:
    done = home("up", "-f", home.write(PROVIDER + f"  config: {config}\n", name="bad.yaml"), code=3)
    assert "bad.yaml:6: " in done.err
    assert "hunter2" not in done.out + done.err
    assert "hunter2" not in home.state.joinpath("serve.log").read_text()
    assert "hunter2" not in home.state.joinpath("audit.log").read_text()


def test_what_the_api_refuses_has_file_line_and_field_too(home: Any) -> None:
    good = PROVIDER.replace("name: p}", "name: other}")
    home("up", "-f", home.write(good + "---\n" + CLUSTER, name="good.yaml"))
    bad = home.write(good.replace("type: sim", "type: docker") + "---\n" + POOL + "  replicas: 0\n", name="bad.yaml")
    before = everything(home)
    done = home("up", "-f", bad, code=6)
    assert done.errors[0].startswith(f"error: {bad}:5: ")
    assert "spec.type" in done.errors[0]
    assert "immutable" in done.errors[0]
    assert "nothing was changed" in done.err
    assert everything(home) == before
    moved = CLUSTER + "  network: {podCIDR: 10.1.0.0/16}\n"
    done = home("up", "-f", home.write(moved, name="bad.yaml"), code=6)
    assert "bad.yaml:6: " in done.err
    assert "spec.network.podCIDR" in done.err


def test_a_provider_that_cannot_work_stops_up_before_anything_is_made(home: Any) -> None:
    text = PROVIDER.replace("name: p}", "name: boxes}").replace(
        "type: sim", "type: docker, config: {host: 'tcp://127.0.0.1:1'}"
    )
    text = text.replace(
        "spec:\n  type: docker, config: {host: 'tcp://127.0.0.1:1'}",
        "spec: {type: docker, config: {host: 'tcp://127.0.0.1:1'}}",
    )
    done = home(
        "apply", "-f", home.write(text, CLUSTER.replace("demo", "boxed").replace("yard", "boxes"), name="bad.yaml"), code=6
    )
    (error,) = done.errors
    assert error.startswith("error: provider boxes: ")
    assert "kubeup why provider/boxes" in done.err
    assert home("get", "cluster", "boxed", code=6).errors


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("get", "machinez"), 3, "did you mean machine?"),
        (("get", "nodes"), 3, "here: a Kubernetes cluster has it"),
        (("get", "machine/nothing"), 6, "not found"),
        (("get", "machine/x", "-A"), 2, "a name goes with neither"),
        (("get", "machines", "-l", "a in ("), 6, "unable to parse requirement"),
        (("delete",), 2, "give either KIND and names, or -f FILE"),
        (("delete", "machines"), 2, "at least one name"),
        (("why", "nothing"), 6, "there is nothing named 'nothing'"),
        (("up",), 2, "Missing option '-f'"),
        (("up", "-f", "nowhere.yaml"), 3, "nowhere.yaml: no such file"),
        (("up", "-f", "x", "--timeout", "3x"), 2, "is not a duration"),
        (("up", "-f", "x", "--plugin", "nowhere.py"), 2, "nowhere.py"),
        (("stauts",), 2, "Did you mean 'status'?"),
        (("init", "mars"), 3, "pip install kubeup-mars"),
        (("providers", "mars"), 3, "pip install kubeup-mars"),
        (("init", "sim", "--name", "A_B"), 3, "cannot be a name"),
        (("kubeconfig", "--use"), 2, "--use goes with --merge"),
        (("--context", "nobody", "status"), 3, ".kube/config cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_has_one_error_and_a_documented_code(
    home: Any, args: tuple[str, ...], code: int, says: str
) -> None:
    done = home(*args, code=code)
    assert len(done.errors) == 1
    assert says in done.errors[0] + done.err
    assert done.err.count("\n") <= 2, "one line with a remedy"
