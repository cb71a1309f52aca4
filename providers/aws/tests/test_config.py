"""What people write: each mistake is one clear error; credentials come from where they are said to."""

import pytest
from kubeup_aws import AwsConfig, AwsOverrides, build
from kubeup_aws.config import problems
from kubeup_core import Context, Denied, InvalidSpec
from pydantic import ValidationError


def test_no_field_is_required() -> None:
    assert AwsConfig() == AwsConfig(region=None, endpoint_url=None, assume_role=None, settle=300)
    AwsOverrides()


@pytest.mark.parametrize(
    "wrong", [{"region": "Europe"}, {"endpointUrl": "aws"}, {"assumeRole": {"roleArn": "admin"}}, {"key": "AKIA"}]
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AwsConfig.model_validate(wrong)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"machinetype": "m5.large"}, "spec.overrides.aws.machinetype"),
        ({"ami": "debian"}, "spec.overrides.aws.ami"),
        ({"subnets": ["subnet-1"]}, "spec.overrides.aws"),
        ({"iops": 5}, "spec.overrides.aws.iops"),
    ],
)
def test_wrong_overrides_say_where_and_what_is_known(wrong: dict[str, object], path: str) -> None:
    found = problems(wrong)
    assert [problem.path for problem in found] == [path]
    assert "machineType" in found[0].remedy


def test_without_a_region_the_error_says_what_to_write(account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(InvalidSpec) as raised:
        build(AwsConfig(endpoint_url=account.url), Context(installation="i"))
    assert raised.value.path == "spec.config.region"


def test_without_credentials_it_is_denied_with_what_to_do(account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(Denied, match="no credentials") as raised:
        build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(installation="i"))
    assert "spec.credentials" in raised.value.remedy


def test_a_secret_is_used_before_what_the_environment_has(account) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": "of-the-secret", "AWS_SECRET_ACCESS_KEY": "s", "default/x/y": "z"}
    build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(installation="i", secrets=secrets)).close()
    assert {seen.key for seen in account.seen} == {"of-the-secret"}


def test_half_a_secret_is_refused(account) -> None:
    with pytest.raises(InvalidSpec, match="AWS_SECRET_ACCESS_KEY") as raised:
        build(
            AwsConfig(region="us-east-1", endpoint_url=account.url),
            Context(installation="i", secrets={"AWS_ACCESS_KEY_ID": "k"}),
        )
    assert raised.value.path == "spec.credentials.secretRef"


def test_a_profile_that_is_not_there_is_refused(account) -> None:
    with pytest.raises(InvalidSpec, match="nobody") as raised:
        build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(installation="i", profile="nobody"))
    assert raised.value.path == "spec.credentials.profile"


def test_a_role_is_taken_on_with_the_credentials(account) -> None:
    role = {"roleArn": "arn:aws:iam::123456789012:role/kubeup", "externalId": "ours"}
    config = AwsConfig.model_validate({"region": "us-east-1", "endpointUrl": account.url, "assumeRole": role})
    build(config, Context(installation="i")).close()
    assumed = [seen for seen in account.seen if seen.action == "AssumeRole"]
    assert [(seen.key, seen.params["ExternalId"]) for seen in assumed] == [("key", "ours")]
    assert account.seen[-1].action == "GetCallerIdentity"
    assert account.seen[-1].key != "key"


def test_the_identity_is_account_and_region(account) -> None:
    suppliers = build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(installation="i"))
    assert suppliers.identity.key == f"{account.account}/us-east-1"
    assert suppliers.identity.principal.startswith("arn:aws:")
    suppliers.close()


def test_other_credentials_under_a_running_process_are_denied(account) -> None:
    suppliers = build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(installation="i"))
    account.account = "210987654321"
    with pytest.raises(Denied, match="210987654321"):
        suppliers.probe()
    suppliers.close()
