"""`Provider.spec.config` and `overrides.sim`: what a person may write about the simulator. How it behaves is in cloud/settings.py.

No field is needed, so that a Provider named `sim` exists by itself.
"""

from __future__ import annotations

from pydantic import Field

from .cloud import Fault, Settings
from .cloud.settings import Camel


class SimConfig(Settings):
    """Which account, and how it behaves. A behaviour that is not named stays as the account has it."""

    account: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Name of the account")
    region: str = Field(default="sim-1", pattern=r"^[a-z]+(-[a-z0-9]+)*$", description="Region; its zones are REGIONa, b and c")
    file: str | None = Field(
        default=None,
        description="Where the account is kept; memory:NAME for this process only. Absent: $KUBEUP_SIM_FILE, or the data home",
    )
    faults: tuple[Fault, ...] = Field(default=(), description="What goes wrong; each is planted once in the account's life")

    def behaviour(self) -> dict[str, object]:
        """The settings that were named, as JSON."""
        named = self.model_fields_set & set(Settings.model_fields)
        return self.model_dump(mode="json", include=named)


class SimOverrides(Camel):
    """What only the simulator understands, of a machine or a network."""

    machine_type: str | None = Field(default=None, description="This machine type, instead of the cheapest that fits")
    image: str | None = Field(default=None, description="Id of an image, instead of the family's")
    network: str | None = Field(default=None, description="Id of a network that exists; it is used and never deleted")
