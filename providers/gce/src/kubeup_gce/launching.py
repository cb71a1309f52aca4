"""Launches: one bulk insert each, and what became of it. Used by machines.py.

The launch's token is the request's id, so Google answers a repeat with the operation of the first call, and the operation can be
found by it for as long as Google remembers. What a launch came to is read from three places, as each alone misleads:
- the operation, whose end tells that nothing can be undone any more, and which alone tells why machines could not be had,
- the operations of its single machines, which say which one failed,
- the machines themselves, which may have died since.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from kubeup_core import (
    InvalidSpec,
    Launch,
    Mark,
    NoCapacity,
    NotFound,
    Outcome,
    Place,
    Result,
    SupplierError,
    Taken,
    Unknown,
)

from . import codes, config, marks
from .client import Compute, Record

USER_DATA_LIMIT = 190_000
"""A metadata value holds 256 KiB of text; what is not text is sent in base64."""

NEEDS_CLOUD_INIT = """#!/bin/sh
# Images without cloud-init (Debian's own at Google): install it once, and let it do what the user-data says. Runs at each boot.
command -v cloud-init >/dev/null && exit 0
export DEBIAN_FRONTEND=noninteractive
for _ in 1 2 3 4 5; do apt-get update -q && apt-get install -q -y cloud-init && break; sleep 5; done
if ! command -v cloud-init >/dev/null; then
    echo "kubeup: cloud-init cannot be installed, so nothing of the user-data is done; the next boot tries again" >&2
    exit 1
fi
cloud-init init --local; cloud-init init; cloud-init modules --mode=config; cloud-init modules --mode=final
"""


class Launching:
    def __init__(self, compute: Compute, settings: config.GceConfig) -> None:
        self._compute, self._settings = compute, settings

    def launch(self, launch: Launch) -> list[Result]:
        zone = launch.offer.place
        try:
            operation = self._compute.change(
                "Instances",
                "bulk_insert",
                zone=zone,
                request_id=launch.token,
                bulk_insert_instance_resource_resource=self._request(launch),
            )
        except Taken as error:
            return self._known_names(launch, error)
        except NoCapacity as error:
            raise scoped(error, launch) from error
        except NotFound as error:
            raise InvalidSpec(
                f"what the machines need is not there: {error.message}",
                code=error.code,
                remedy="correct image, network or type",
            ) from error
        return self._results(launch, operation)

    def lookup(self, launch: Launch) -> list[Result]:
        """Without an operation, what is there is all that can be said: Google forgets operations in the end."""
        operations = self._operations(launch, f'clientOperationId = "{launch.token}"')
        return self._results(launch, operations[0] if operations else None)

    def _results(self, launch: Launch, operation: Record | None) -> list[Result]:
        if operation is not None and operation.get("status") != "DONE":
            return [Result(id=id, outcome=Outcome.PENDING) for id in ids(launch)]
        seen = self._seen(launch)
        missing = len(seen) < len(launch.members)
        failures = self._failures(launch, operation) if operation is not None and missing else {}
        return [self._result(launch, i, id, seen.get(i), operation, failures) for i, id in enumerate(ids(launch))]

    def _result(
        self,
        launch: Launch,
        index: int,
        id: str,
        record: Record | None,
        operation: Record | None,
        failures: Mapping[str, SupplierError | None],
    ) -> Result:
        name = id.partition("/")[2]
        if record is None and failures.get(name) is not None:
            return Result(id="", outcome=Outcome.REFUSED, error=failures[name])
        if record is None:  # a listing may lag behind; asking by name does not
            record = self._compute.get("Instances", zone=launch.offer.place, instance=name)
        if record is not None:
            if not _ours(record, launch.member_mark(index)):
                return Result(id="", outcome=Outcome.REFUSED, error=_taken(name, record))
            outcome = Outcome.DEAD if record.get("status") == "STOPPING" else Outcome.MADE
            return Result(id=id, outcome=outcome)
        if operation is None:
            return Result(id="", outcome=Outcome.ABSENT)
        if name in failures:  # its own operation went well, and it is not there any more
            return Result(id=id, outcome=Outcome.DEAD)
        error = codes.of_operation(operation)
        if error is not None:
            return Result(id="", outcome=Outcome.REFUSED, error=scoped(error, launch))
        return Result(id="", outcome=Outcome.UNKNOWN, error=Unknown(f"nothing says what became of {name}"))

    def _failures(self, launch: Launch, operation: Record) -> dict[str, SupplierError | None]:
        """Name of a machine -> why it could not be had, or None when it was made. A launch that was undone made none."""
        undone = codes.of_operation(operation)
        whole = scoped(undone, launch) if undone is not None else None
        found: dict[str, SupplierError | None] = {}
        group = operation.get("operation_group_id", "")
        for one in self._operations(launch, f'operationGroupId = "{group}"') if group else ():
            name = str(one.get("target_link", "")).rpartition("/")[2]
            if one.get("name") != operation.get("name"):
                error = codes.of_operation(one)
                found[name] = scoped(error, launch) if error is not None else whole
        return found

    def _seen(self, launch: Launch) -> dict[int, Record]:
        listed = self._compute.all("Instances", zone=launch.offer.place, filter=marks.filter_of_maker(launch.mark))
        return {marks.index_of(record["name"]): record for record in listed}

    def _operations(self, launch: Launch, wanted: str) -> list[Record]:
        return self._compute.all("ZoneOperations", zone=launch.offer.place, filter=wanted)

    def _known_names(self, launch: Launch, error: Taken) -> list[Result]:
        """Names are in use: by our own first call, which Google has forgotten, or by somebody else's machines."""
        found = []
        for index, id in enumerate(ids(launch)):
            record = self._compute.get("Instances", zone=launch.offer.place, instance=id.partition("/")[2])
            if record is not None and not _ours(record, launch.member_mark(index)):
                raise _taken(id, record) from error
            found.append(record)
        if not any(found):
            raise Unknown(f"a name of the launch is in use, and by nothing that is there: {error.message}") from error
        return [
            Result(id=id if record else "", outcome=Outcome.MADE if record else Outcome.ABSENT)
            for id, record in zip(ids(launch), found, strict=True)
        ]

    # -- the request --

    def _request(self, launch: Launch) -> Record:
        names = [id.partition("/")[2] for id in ids(launch)]
        return {
            "count": len(names),
            "min_count": 1,  # the default is all: then Google deletes what it has made, and what may be in use by now
            "per_instance_properties": {name: {"name": name} for name in names},
            "instance_properties": self._properties(launch),
        }

    def _properties(self, launch: Launch) -> Record:
        chosen = config.required(launch.template.overrides)
        network = launch.network
        labels = marks.labels(launch.mark)
        card: Record = (
            {"subnetwork": network["subnetwork"]} if network.get("subnetwork") else {"network": "global/networks/default"}
        )
        public = launch.template.public_address
        if self._settings.external_addresses if public is None else public:
            card["access_configs"] = [{"name": "external", "type_": "ONE_TO_ONE_NAT"}]
        tag = network.get("tag", "")
        found: Record = {
            "machine_type": launch.offer.machine_type,
            "labels": {**labels, "kubeup-image": image_label(launch.offer.image)},
            "tags": {"items": [*([tag, role_tag(tag, launch.role)] if tag else []), *chosen.tags]},
            "can_ip_forward": True,  # pods have addresses of their own
            "network_interfaces": [card],
            "metadata": {"items": [{"key": key, "value": value} for key, value in self._metadata(launch).items()]},
            "disks": [
                {
                    "boot": True,
                    "auto_delete": True,
                    "device_name": "boot",
                    "initialize_params": {
                        "source_image": launch.offer.image,
                        "disk_size_gb": max(10, -(-launch.template.disk // 1024**3)),
                        "disk_type": chosen.disk_type or "pd-balanced",
                        "labels": labels,
                    },
                }
            ],
        }
        if launch.offer.spot:
            found["scheduling"] = {
                "provisioning_model": "SPOT",
                "instance_termination_action": "DELETE",
                "automatic_restart": False,
                "on_host_maintenance": "TERMINATE",
            }
        if chosen.service_account is not None:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            found["service_accounts"] = [{"email": chosen.service_account, "scopes": scopes}]
        return found

    def _metadata(self, launch: Launch) -> dict[str, str]:
        found = {"enable-oslogin": "FALSE", "block-project-ssh-keys": "TRUE", "serial-port-logging-enable": "FALSE"}
        keys = [key for key in launch.network.get("ssh-keys", "").splitlines() if key]
        if keys:
            found["ssh-keys"] = "\n".join(f"{self._settings.ssh_user}:{key}" for key in keys)
        if launch.user_data:
            if len(launch.user_data) > USER_DATA_LIMIT:
                raise InvalidSpec(
                    f"the user-data is {len(launch.user_data)} bytes, and {USER_DATA_LIMIT} are possible",
                    path="spec.machine.files",
                    remedy="make spec.machine.files smaller, or fetch large files from a URL",
                )
            found.update(_user_data(launch.user_data))
            found["startup-script"] = NEEDS_CLOUD_INIT
        return found


def ids(launch: Launch) -> list[str]:
    """`zone/name` of each member."""
    members = enumerate(launch.members)
    return [f"{launch.offer.place}/{marks.machine_name(m.name, launch.member_mark(i))}" for i, m in members]


def scoped(error: SupplierError, launch: Launch) -> SupplierError:
    """A lack of capacity is one of the zone, the type and spot; a quota is the whole region's."""
    if not isinstance(error, NoCapacity) or error.person:
        return error
    offer = launch.offer
    scope = Place(place=offer.place, machine_type=offer.machine_type, spot=offer.spot)
    return NoCapacity(error.message, scope=scope, code=error.code, request_id=error.request_id, remedy=error.remedy)


def image_label(image: str) -> str:
    return marks.encoded(image.rpartition("/")[2])


def role_tag(tag: str, role: str) -> str:
    """The network tag of machines of one role in one cluster's network."""
    return f"{tag}-{ROLES.get(role, 'other')}"


ROLES: Mapping[str, str] = {"controlPlane": "cp", "worker": "w", "loadBalancer": "lb", "plain": "p"}


def _user_data(data: bytes) -> dict[str, str]:
    try:
        return {"user-data": data.decode()}
    except UnicodeDecodeError:
        return {"user-data": base64.b64encode(data).decode(), "user-data-encoding": "base64"}


def _ours(record: Record, mark: Mark) -> bool:
    found = marks.mark_of(record.get("labels", {}), marks.index_of(str(record["name"])))
    return found is not None and found.same(mark)


def _taken(name: str, record: Mapping[str, Any]) -> Taken:
    by = marks.owner(marks.mark_of(record.get("labels", {})))
    return Taken(f"the name {name} is held by a machine of {by}", by=by, code="alreadyExists", remedy="rename or remove it")
