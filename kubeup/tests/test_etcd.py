"""kubeup etcd: what it shows is the Cluster's status; what can not be is one clear error."""

from __future__ import annotations

from typing import Any

KUBERNETES = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: with-etcd}
spec: {provider: yard, paused: true, kubernetes: {version: v1.34.1}}
"""


def test_a_cluster_without_a_place_for_snapshots_is_told_what_to_set(home: Any) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="etcd.yaml"))
    done = home("etcd", "snapshot", "with-etcd", code=3)
    assert "spec.etcd.snapshots.to is not set" in done.err
    assert "file:///DIRECTORY" in done.err


def test_a_plain_cluster_has_no_etcd(home: Any, texts: dict[str, str]) -> None:
    plain = texts["cluster"].replace("provider: yard", "provider: yard, paused: true, etcd: {snapshots: {to: 'file:///x'}}")
    home("apply", "-f", home.write(plain.replace("name: demo", "name: plain"), name="plain.yaml"))
    for verb in ("snapshot", "list"):
        assert "Cluster plain is a plain set of machines and has no etcd" in home("etcd", verb, "plain", code=3).err


def test_a_snapshot_that_is_not_taken_in_time_ends_with_its_code(home: Any) -> None:
    text = KUBERNETES.replace("with-etcd", "slow").replace("v1.34.1}", "v1.34.1}, etcd: {snapshots: {to: 'file:///x'}}")
    home("apply", "-f", home.write(text, name="slow.yaml"))
    assert "no snapshot was taken" in home("etcd", "snapshot", "slow", "--timeout", "0s", code=4).err


def test_list_says_when_there_is_none_and_when_there_is_no_cluster(home: Any) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="etcd.yaml"))
    assert "no snapshot of cluster with-etcd is known" in home("etcd", "list", "with-etcd").out
    assert "there is no Cluster default/nobody" in home("etcd", "list", "nobody", code=6).err


def test_restore_asks_first_and_says_what_is_lost(home: Any) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="etcd.yaml"))
    done = home("etcd", "restore", "with-etcd", "default.with-etcd-20260102-030405.etcd-snapshot", code=3)
    assert "everything that was written to cluster with-etcd after default.with-etcd-20260102-030405" in done.err
    assert "--yes" in done.err


def test_restore_without_a_snapshot_or_an_etcd_is_one_clear_error(home: Any, texts: dict[str, str]) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="etcd.yaml"))
    assert "no snapshot of cluster with-etcd is known" in home("etcd", "restore", "with-etcd", "--yes", code=3).err
    plain = texts["cluster"].replace("provider: yard", "provider: yard, paused: true")
    home("apply", "-f", home.write(plain.replace("name: demo", "name: plain-restore"), name="plain.yaml"))
    assert "has no etcd" in home("etcd", "restore", "plain-restore", "x", "--yes", code=3).err


def test_restore_that_does_not_come_to_an_end_in_time_ends_with_its_code(home: Any) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="etcd.yaml"))
    done = home(
        "etcd", "restore", "with-etcd", "default.with-etcd-20260102-030405.etcd-snapshot", "--yes", "--timeout", "0s", code=4
    )
    assert "not Ready after" in done.err
    assert "kubeup why" in done.err
