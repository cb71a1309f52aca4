"""What people write: where project, region and credentials come from, and what is said when they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import credentials as of_people
from google.oauth2 import service_account
from kubeup_core import Context, Denied, InvalidSpec, NetworkSpec
from kubeup_gce import GceConfig, GceOverrides, build, client
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION"):
        monkeypatch.delenv(name, raising=False)


def test_project_and_region_come_from_googles_own_variables(place: Any, emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", place.world.project)
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "europe-west1")
    made = build(GceConfig(endpoint=emulator.url), Context(installation="home"))
    assert made.identity.key == f"gce:{place.world.project}/europe-west1"
    made.close()


@pytest.mark.parametrize("field", ["project", "region"])
def test_without_them_the_field_and_the_variable_are_named(emulator: Any, field: str) -> None:
    values = {"project": "p-1", "region": "us-central1", field: None}
    with pytest.raises(InvalidSpec) as caught:
        build(GceConfig(endpoint=emulator.url, **values), Context(installation="home"))
    assert caught.value.path == f"spec.config.{field}"
    assert f"GOOGLE_CLOUD_{field.upper()}" in caught.value.remedy


def test_a_region_that_there_is_not_is_said_before_anything_is_made(place: Any, emulator: Any) -> None:
    config = GceConfig(project=place.world.project, region="moon-east1", endpoint=emulator.url)
    with pytest.raises(InvalidSpec, match="moon-east1"):
        build(config, Context(installation="home"))


def test_a_project_of_somebody_else_is_denied(emulator: Any) -> None:
    with pytest.raises(Denied):
        build(GceConfig(project="not-mine", region="us-central1", endpoint=emulator.url), Context(installation="home"))


def test_a_secret_without_a_usable_key_is_denied_and_not_shown() -> None:
    key = json.dumps({"type": "service_account", "private_key": "not-a-key", "project_id": "p-1"})
    config = GceConfig(project="p-1", region="us-central1", endpoint="https://127.0.0.1:9")
    with pytest.raises(Denied) as caught:
        build(config, Context(installation="home", secrets={"key.json": key}))
    assert "not-a-key" not in str(caught.value)


@pytest.fixture(scope="module")
def key() -> str:
    """The file that Google gives out for a service account."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = {"type": "service_account", "project_id": "p-1", "private_key_id": "1", "private_key": private.decode()}
    more = {"client_email": "kubeup@p-1.example", "client_id": "2", "token_uri": "https://127.0.0.1:9/token"}
    return json.dumps(file | more)


def test_a_secret_with_a_key_gives_who_it_is_and_its_project(key: str) -> None:
    made, project, principal = client.credentials(None, {"note": "not a key", "any-name": key})
    assert isinstance(made, service_account.Credentials)
    assert (project, principal, made.scopes) == ("p-1", "kubeup@p-1.example", [client.SCOPE])


def test_a_key_goes_to_no_server_without_tls(key: str) -> None:
    made, project, principal = client.credentials("http://127.0.0.1:9", {"key.json": key})
    assert (type(made).__name__, project) == ("AnonymousCredentials", None)
    assert principal == "nobody, at http://127.0.0.1:9"


@pytest.mark.parametrize("kind", ["person", "service account"])
def test_without_a_secret_the_application_default_file_counts(
    key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"type": "authorized_user", "client_id": "1", "client_secret": "2", "refresh_token": "3"}
    file = tmp_path / "application_default_credentials.json"
    file.write_text(json.dumps(login) if kind == "person" else key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    made, project, principal = client.credentials(None, {})
    if kind == "person":
        assert isinstance(made, of_people.Credentials)
        assert (project, principal) == (None, "application default credentials")
    else:
        assert isinstance(made, service_account.Credentials)
        assert (project, principal) == ("p-1", "kubeup@p-1.example")


def test_an_application_default_file_that_is_not_there_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    with pytest.raises(Denied) as caught:
        client.credentials(None, {})
    assert "gcloud auth application-default login" in caught.value.remedy


def test_a_profile_is_nothing_that_google_knows(place: Any, emulator: Any) -> None:
    config = GceConfig(project=place.world.project, region="us-central1", endpoint=emulator.url)
    with pytest.raises(InvalidSpec, match="profiles"):
        build(config, Context(installation="home", profile="work"))


def test_a_project_whose_network_is_named_must_have_it(place: Any) -> None:
    want = NetworkSpec(mark=place.mark("Network"), name="demo", overrides={"network": "nowhere"})
    with pytest.raises(InvalidSpec) as caught:
        place.suppliers.networks.ensure(want)
    assert caught.value.path == "spec.overrides.gce.network"


def test_more_ssh_keys_than_fit_are_refused_before_a_rule_is_made(place: Any) -> None:
    keys = tuple("ssh-rsa " + "A" * 700 for _ in range(3))
    with pytest.raises(InvalidSpec) as caught:
        place.network(ssh_keys=keys)
    assert caught.value.path == "spec.machine.sshKeys"
    assert not [path for path in place.world.everything() if "firewalls" in path]


@pytest.mark.parametrize("value", [{"project": "My Project"}, {"endpoint": "compute.googleapis.com"}, {"zone": "a"}])
def test_a_config_with_a_mistake_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GceConfig.model_validate(value)


def test_overrides_are_written_in_camel_case() -> None:
    assert GceOverrides.model_validate({"diskType": "pd-ssd", "serviceAccount": "a@b.c"}).disk_type == "pd-ssd"


def test_how_long_a_listing_may_lag_is_config_and_ten_seconds_otherwise(place: Any, emulator: Any) -> None:
    assert place.suppliers.capabilities.settle == 10
    config = GceConfig.model_validate(
        {"project": place.world.project, "region": "us-central1", "endpoint": emulator.url, "settle": 2}
    )
    made = build(config, Context(installation="home"))
    assert made.capabilities.settle == 2
    made.close()
