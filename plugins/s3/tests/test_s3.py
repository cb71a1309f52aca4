"""The S3 store: what a snapshot store must do, through the real boto3 over HTTP, and what people see when it cannot."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kubeup_core import Denied, InvalidSpec, NotFound, NotReady, SnapshotStore
from kubeup_core.plugins import discover
from kubeup_s3 import build
from kubeup_s3.client import ABSENT, DENIED, NO_BUCKET, decided
from kubeup_s3.location import Location, locate

NAME = "demo-20260101-000000.etcd-snapshot"


@pytest.fixture
def store(endpoint: str, bucket: str, secrets: dict[str, str]) -> Any:
    made: SnapshotStore = build(f"s3://{bucket}/clusters/demo?endpoint={endpoint}&region=us-east-1", secrets)
    yield made
    made.close()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    file = tmp_path / "snapshot"
    file.write_bytes(bytes(range(256)) * 40_000)
    return file


def test_the_plugin_is_found_by_its_entry_point() -> None:
    assert "s3" in discover().snapshot_stores


def test_a_snapshot_larger_than_one_part_comes_back_as_it_was_put(store: SnapshotStore, tmp_path: Path, snapshot: Path) -> None:
    store.put(NAME, snapshot)
    store.get(NAME, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == snapshot.read_bytes()
    assert [(s.name, s.size) for s in store.list()] == [(NAME, snapshot.stat().st_size)]


def test_only_snapshots_of_its_own_folder_are_listed(
    store: SnapshotStore, endpoint: str, bucket: str, secrets: dict[str, str], snapshot: Path
) -> None:
    other = build(f"s3://{bucket}/clusters?endpoint={endpoint}&region=us-east-1", secrets)
    other.put("other.etcd-snapshot", snapshot)
    other.put("notes.txt", snapshot)
    store.put(NAME, snapshot)
    assert [s.name for s in store.list()] == [NAME]
    assert [s.name for s in other.list()] == ["other.etcd-snapshot"]
    other.close()


def test_a_deleted_snapshot_is_gone_and_deleting_it_again_succeeds(store: SnapshotStore, snapshot: Path) -> None:
    store.put(NAME, snapshot)
    store.delete(NAME)
    store.delete(NAME)
    assert store.list() == ()


def test_a_snapshot_that_is_not_there_is_not_found_and_leaves_nothing_behind(store: SnapshotStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.get(NAME, tmp_path / "back")
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there_is_named_with_a_remedy(endpoint: str, secrets: dict[str, str], snapshot: Path) -> None:
    lost = build(f"s3://not-there-at-all?endpoint={endpoint}&region=us-east-1", secrets)
    for act in (lost.list, lambda: lost.put(NAME, snapshot)):
        with pytest.raises(InvalidSpec, match="not-there-at-all") as caught:
            act()
        assert "make the bucket" in caught.value.remedy
    lost.close()


def test_a_store_that_does_not_answer_is_asked_again_later(secrets: dict[str, str]) -> None:
    lost = build("s3://bucket?endpoint=http://127.0.0.1:9&region=us-east-1", secrets)
    with pytest.raises(NotReady, match="does not answer"):
        lost.list()
    lost.close()


def test_without_any_credentials_it_says_where_to_put_them(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    anonymous = build(f"s3://bucket?endpoint={endpoint}&region=us-east-1", {})
    with pytest.raises(Denied, match="no credentials") as caught:
        anonymous.list()
    assert "secretRef" in caught.value.remedy
    anonymous.close()


def test_a_secret_without_its_keys_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InvalidSpec, match="has no AWS_SECRET_ACCESS_KEY") as caught:
        build("s3://bucket", {"AWS_ACCESS_KEY_ID": "key"})
    assert caught.value.path == "spec.etcd.snapshots.secretRef"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://backups", Location(bucket="backups")),
        ("s3://backups/a/b/", Location(bucket="backups", prefix="a/b/")),
        (
            "s3://backups/a?endpoint=https://minio.example:9000&region=eu",
            Location(bucket="backups", prefix="a/", endpoint="https://minio.example:9000", region="eu"),
        ),
    ],
)
def test_a_url_says_bucket_folder_endpoint_and_region(url: str, place: Location) -> None:
    assert locate(url) == place


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///folder", "s3://UPPER", "https://bucket", "s3://bucket?endpiont=x", "s3://bucket?endpoint=minio"]
)
def test_a_url_that_is_none_is_refused_with_the_form(url: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        locate(url)
    assert "s3://BUCKET/FOLDER" in caught.value.remedy


@pytest.mark.parametrize(
    ("codes", "decision"), [(ABSENT, NotFound), (NO_BUCKET, InvalidSpec), (DENIED, Denied), ({"SlowDown", "500"}, NotReady)]
)
def test_every_code_leads_to_its_decision(codes: set[str], decision: type[Exception]) -> None:
    for code in codes:
        answer: Any = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"RequestId": "r1"}}
        found = decided("bucket b", ClientError(answer, "GetObject"))
        assert type(found) is decision
        assert (found.code, found.request_id) == (code, "r1")
