"""What launches and balancers need to know of a network, as the text that the core stores with the Cluster. Pure.

Written by `networks.py`, read by `launching.py` and `load_balancers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeup_core import Data

BASE = "base"
"""The security group that every machine of a cluster is in."""

BALANCER = "balancer"
"""The security group of the cluster's load balancers."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """subnets: zone -> id. groups: what for -> id (BASE, BALANCER, or a role). given: groups that a person named, in place of ours.
    public: machines get a public address."""

    vpc: str
    subnets: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    public: bool = False

    @classmethod
    def read(cls, data: Data) -> Layout:
        return cls(
            vpc=data.get("vpc", ""),
            subnets=pairs(data.get("subnets", "")),
            groups=pairs(data.get("groups", "")),
            given=tuple(filter(None, data.get("given", "").split(","))),
            public=data.get("public") == "true",
        )

    def data(self) -> dict[str, str]:
        return {
            "vpc": self.vpc,
            "subnets": text(self.subnets),
            "groups": text(self.groups),
            "given": ",".join(self.given),
            "public": "true" if self.public else "false",
        }

    def worn_by(self, role: str) -> tuple[str, ...]:
        """The security groups of a machine."""
        return self.given or tuple(self.groups[name] for name in (BASE, role) if name in self.groups)


def text(pairs: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(pairs.items()))


def pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
