"""What people write for this provider: `Provider.spec.config`, and `overrides.aws` in clusters, pools, machines, balancers, volumes.

No field of the config is required: without a region the SDK's own chain decides (AWS_REGION, the profile), so a Provider called
`aws` exists as soon as the plugin is installed.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeup_core import InvalidSpec, Problem
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.aws"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class AssumeRole(_Model):
    """A role that is taken on with the credentials, in this account or another one."""

    role_arn: str = Field(pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/.+$", description="ARN of the role")
    external_id: str | None = Field(default=None, min_length=2, description="External id that the role's trust policy asks for")
    session_name: str = Field(default="kubeup", pattern=r"^[\w+=,.@-]{2,64}$", description="Name of the session, in CloudTrail")


class AwsConfig(_Model):
    """One account in one region."""

    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$",
        description="Region; null is what the SDK finds: AWS_REGION, the profile",
    )
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+(/.*)?$",
        description="Where the API is, for places that speak EC2's and are not AWS",
    )
    assume_role: AssumeRole | None = Field(default=None, description="A role to take on")
    settle: float = Field(
        default=300,
        ge=0,
        le=3600,
        description="Seconds for which the API may hide what was just made. 300 is what EC2 says; less only where it is another API",
    )


class AwsOverrides(_Model):
    """What only this provider knows. vpc, subnets and securityGroups belong to a Cluster, volume settings also to Volumes."""

    machine_type: str | None = Field(default=None, min_length=2, description="Instance type to use, whatever cpu and memory")
    spot: bool | None = Field(default=None, description="Spot instances first, on-demand ones where there are none")
    ami: str | None = Field(default=None, pattern=r"^ami-[0-9a-z]+$", description="Image to use, whatever the family")
    iam_profile: str | None = Field(default=None, min_length=1, description="Name or ARN of the instance profile")
    volume_type: str | None = Field(
        default=None, pattern=r"^(gp2|gp3|io1|io2|st1|sc1|standard)$", description="EBS volume type"
    )
    iops: int | None = Field(default=None, ge=100, description="IOPS of gp3, io1 and io2 volumes")
    throughput: int | None = Field(default=None, ge=125, description="MiB/s of gp3 volumes")
    kms_key: str | None = Field(
        default=None, min_length=1, description="Key that disks are encrypted with; null is the account's"
    )
    vpc: str | None = Field(default=None, pattern=r"^vpc-[0-9a-z]+$", description="A VPC to use instead of making one")
    subnets: list[str] = Field(default_factory=list, description="Subnets of it to use; empty is all of them")
    security_groups: list[str] = Field(
        default_factory=list, description="Security groups to put machines into instead of making some; needs vpc"
    )

    @model_validator(mode="after")
    def _in_a_vpc(self) -> AwsOverrides:
        if (self.subnets or self.security_groups) and not self.vpc:
            raise ValueError("subnets and securityGroups need vpc: the VPC that they are in")
        return self


def problems(value: Mapping[str, object]) -> list[Problem]:
    """What is wrong with these overrides."""
    try:
        AwsOverrides.model_validate(dict(value))
    except ValidationError as error:
        return [
            Problem(
                path=".".join([PATH, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {', '.join(f.alias or n for n, f in AwsOverrides.model_fields.items())}",
            )
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    return []


def overrides(value: Mapping[str, object]) -> AwsOverrides:
    """Raises InvalidSpec with the first thing that is wrong."""
    if wrong := problems(value):
        raise InvalidSpec(wrong[0].message, path=wrong[0].path, remedy=wrong[0].remedy)
    return AwsOverrides.model_validate(dict(value))
