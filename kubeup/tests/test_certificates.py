"""kubeup certificates: what it shows is the Cluster's status; what can not be is one clear error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubeup.commands.certificates import rows_of

KUBERNETES = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: new}
spec: {provider: yard, paused: true, kubernetes: {version: v1.34.1}}
"""


def test_before_anything_was_read_it_says_so(home: Any) -> None:
    home("apply", "-f", home.write(KUBERNETES, name="new.yaml"))
    assert "no certificate of cluster new has been read yet" in home("certificates", "new").out


def test_a_plain_cluster_and_one_that_is_not_there_are_one_clear_error(home: Any, texts: dict[str, str]) -> None:
    plain = texts["cluster"].replace("provider: yard", "provider: yard, paused: true").replace("name: demo", "name: bare")
    home("apply", "-f", home.write(plain, name="bare.yaml"))
    assert "has no certificates" in home("certificates", "bare", code=3).err
    assert "there is no Cluster default/nobody" in home("certificates", "nobody", code=6).err


def test_a_machines_certificates_are_rows_with_the_first_end_first() -> None:
    record = {
        "machine": "demo-control-plane-0",
        "certificates": [
            {"name": "apiserver", "ends": "2027-03-01T00:00:00Z", "renewed": True},
            {"name": "kubelet-client", "ends": "2027-01-11T00:00:00Z", "renewed": False},
        ],
    }
    assert rows_of(record, datetime(2027, 1, 1, tzinfo=UTC)) == [
        ("demo-control-plane-0", "kubelet-client", "2027-01-11", "10 days", "the kubelet"),
        ("demo-control-plane-0", "apiserver", "2027-03-01", "59 days", "kubeup"),
    ]
