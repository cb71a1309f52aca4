"""The whole set of files at once: each fault of the input has one clear error that names the field, its file and its line."""

import pytest
from kubeup.checks import check, references
from kubeup.errors import BadInput
from kubeup.manifests import parse

HEAD = "apiVersion: kubeup.dev/v1alpha1\n"
CLUSTER = HEAD + "kind: Cluster\nmetadata: {name: demo}\nspec:\n  provider: sim\n"
POOL = HEAD + "kind: NodePool\nmetadata: {name: web}\nspec:\n  cluster: demo\n"


def problems(text: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        check(parse(text, "a.yaml"), "default")
    return caught.value.problems


def test_a_good_set_gets_its_namespace_and_nothing_else() -> None:
    documents = check(parse(CLUSTER + "---\n" + POOL, "a.yaml"), "team")
    assert [d.namespace for d in documents] == ["team", "team"]
    assert ("spec.cluster", "Cluster", "team", "demo") in list(references(documents[1]))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (HEAD + "kind: Clustr\nmetadata: {name: a}\n", 2, "no kind 'Clustr'; did you mean \"Cluster\"?"),
        ("kind: Cluster\nmetadata: {name: a}\n", 1, "kubeup.dev/v1alpha1"),
        (HEAD + "kind: Cluster\nmetadata: {name: Demo_1}\n", 3, "cannot be a name"),
        (HEAD + "kind: Cluster\nmetadata: {name: 1.5}\n", 3, "put it in quotes"),
        (POOL + "  replica: 3\n", 6, '"replicas"'),
        (POOL + "  replicas: -1\n", 6, "spec.replicas"),
        (POOL + "  replicas: three\n", 6, "spec.replicas"),
        (POOL + "  replicas: 2000000\n", 6, "spec.replicas"),
        (POOL + "  machine:\n    memory: 4GB\n", 7, '"4Gi"'),
        (POOL + "  machine:\n    memory: 4\n", 7, '"4Gi"'),
        (POOL + "  machine: {memory: 32Mi}\n", 6, "64Mi"),
        (CLUSTER + "  kubernetes: {version: 1.30}\n", 6, "1.3"),
        (CLUSTER + "  network: {podCIDR: 10.0.0.0/8, serviceCIDR: 10.96.0.0/12}\n", 6, "overlaps"),
        (CLUSTER + "  network: {podCIDR: 10.0.0.0}\n", 6, "spec.network.podCIDR"),
        (HEAD + "kind: Provider\nmetadata: {name: p}\nspec: {type: sim, config: {regoin: x}}\n", 4, "region"),
        (HEAD + "kind: Provider\nmetadata: {name: p}\nspec: {type: mars}\n", 4, "pip install kubeup-mars"),
        (CLUSTER + "---\n" + CLUSTER, 9, "stands twice"),
        (HEAD + "kind: Provider\nmetadata: {name: p, namespace: x}\nspec: {type: sim}\n", 3, "belongs to no namespace"),
    ],
)
def test_bad_input_is_named_with_its_line_and_a_way_out(text: str, line: int, says: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"a.yaml:{line}: "), problem
    assert says in problem


def test_all_faults_are_told_at_once() -> None:
    assert (
        len(problems(POOL + "  replicas: -1\n  machine: {cpu: 0}\n---\n" + HEAD + "kind: Nothing\nmetadata: {name: a}\n")) == 3
    )
