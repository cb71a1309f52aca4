"""From files to documents: every mistake has a file and a line, and nothing is guessed."""

import io
from pathlib import Path

import pytest
from kubeup.errors import BadInput
from kubeup.manifests import load, parse

GOOD = """\
# a comment
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  provider: sim
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: web}
spec:
  cluster: demo
  offers:
  - provider: sim
"""


def test_documents_remember_where_their_fields_stand() -> None:
    cluster, pool = parse(GOOD, "a.yaml")
    assert (cluster.kind, cluster.name, cluster.where()) == ("Cluster", "demo", "a.yaml:2")
    assert cluster.where("spec.provider") == "a.yaml:6"
    assert pool.where("spec.offers[0].provider") == "a.yaml:14"
    assert pool.where("spec.offers[7].nothing") == "a.yaml:13"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2\nb: 3", r"a\.yaml:2:2: not YAML"),
        ("a: 1\n\tb: 2", r"a\.yaml:2:1: a tab"),
        ("kind: A\nspec:\n  x: 1\n  x: 2\n", r'a\.yaml:4:3: the key "x" stands twice .*line 3'),
        ("- 1\n- 2\n", r"a\.yaml:1: an object must be a mapping"),
        ("? [a, b]\n: 1\n", r"a\.yaml:1:3: a key must be plain text"),
        ("x: !!python/object:os.system {}\n", r"a\.yaml:1:4: not YAML"),
    ],
)
def test_text_that_is_no_manifest_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse(text, "a.yaml")


def test_a_deeply_nested_text_is_refused_and_does_not_crash() -> None:
    with pytest.raises(BadInput):
        parse("[" * 20_000, "a.yaml")


def test_dates_stay_text_and_a_list_is_taken_apart() -> None:
    (one,) = parse("kind: List\nitems:\n- kind: Secret\n  metadata: {name: 2024-01-01}\n", "a.yaml")
    assert one.name == "2024-01-01"
    assert one.where("metadata.name") == "a.yaml:4"


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("kind: B\n")
    (tmp_path / "a.json").write_text('{"kind": "A"}')
    (tmp_path / "notes.txt").write_text("not a manifest: [")
    assert [d.kind for d in load([str(tmp_path)])] == ["A", "B"]


def test_standard_input_is_a_source() -> None:
    assert [d.kind for d in load(["-"], io.BytesIO(b"kind: A\n---\nkind: B\n"))] == ["A", "B"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere.yaml", "no such file"),
        ("http://localhost/x.yaml", "plain http"),
        ("{tmp}", "no .yaml"),
        ("{tmp}/x.bin", "not UTF-8"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, source: str, says: str) -> None:
    if source.endswith(".bin"):
        (tmp_path / "x.bin").write_bytes(b"kind: \xff\xfe")
    with pytest.raises(BadInput, match=says):
        load([source.format(tmp=tmp_path)])


def test_an_empty_source_says_how_to_get_a_first_file() -> None:
    with pytest.raises(BadInput) as caught:
        load(["-"], io.BytesIO(b"---\n# nothing\n"))
    assert "kubeup init" in caught.value.remedy


def test_a_source_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadInput, match="larger than 8 MiB"):
        load(["-"], io.BytesIO(b"#" * (8 * 2**20 + 1)))
