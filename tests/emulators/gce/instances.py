"""Machines and what hangs on them: bulkInsert with its operations, deletion with the disks that go along, attach and detach.

Sources: the reference of instances.bulkInsert (minCount, perInstanceProperties, operationGroupId) and the threads that
docs/how-to/gce.md names for what is told only by operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from . import catalog
from .refusals import in_use, missing, must_be_ready
from .world import ApiError, Body, Item, World

Late = tuple[str, str] | None
EXHAUSTED = "ZONE_RESOURCE_POOL_EXHAUSTED"
FULL = "The zone '{}' does not have enough resources available to fulfill the request."


def count(world: World) -> int:
    return sum(1 for item in world.items.values() if item.collection == "instances")


def has(world: World, instance: Item, disk: Item) -> bool:
    return any(world.local(d.get("source", "")) == disk.path for d in instance.body.get("disks", ()))


def view(world: World, item: Item, body: Body) -> Body:
    if item.deleting:
        body["status"] = "STOPPING"
    elif world.now() < item.made_at + world.duration / 3:
        body["status"] = "PROVISIONING"
    elif world.now() < item.ready_at:
        body["status"] = "STAGING"
    else:
        body["status"] = item.extra.get("status", "RUNNING")
    if body["status"] == "PROVISIONING":  # addresses come with the machine
        body["networkInterfaces"] = [{k: v for k, v in n.items() if k != "networkIP"} for n in body["networkInterfaces"]]
    return body


def bulk_insert(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    zone, properties = at["zone"], body.get("instanceProperties", {})
    names = list(body.get("perInstanceProperties", {}))
    wanted = int(body.get("count", "0"))
    if not names or wanted != len(names):
        raise ApiError(400, "invalid", "count must equal the number of perInstanceProperties")
    if wanted > 1000:
        raise ApiError(400, "invalid", "Invalid value for field 'resource.count'")
    _must_exist(world, zone, properties)
    taken = [name for name in names if f"zones/{zone}/instances/{name}" in world.items]
    if taken:
        raise ApiError(
            409, "alreadyExists", f"The resource 'projects/{world.project}/zones/{zone}/instances/{taken[0]}' already exists"
        )
    if world.quota is not None and count(world) + wanted > world.quota:
        raise ApiError(403, "quotaExceeded", f"Quota 'INSTANCES' exceeded.  Limit: {world.quota}.0 in region.")
    room = world.room.get(zone, wanted)
    if world.refuse_at_once and room < wanted:
        raise ApiError(503, "insufficientCapacity", FULL.format(zone))
    return _Bulk(
        world, zone, properties, names, room, late, int(body.get("minCount", wanted)), query.get("requestId", "")
    ).begin()


class _Bulk:
    """One bulk insert: its own operation, and one for each machine, in one group."""

    def __init__(
        self, world: World, zone: str, properties: Body, names: list[str], room: int, late: Late, least: int, request_id: str
    ) -> None:
        self.world, self.zone, self.properties, self.names = world, zone, properties, names
        self.room, self.late, self.least, self.request_id = room, late, least, request_id
        self.made: list[str] = []
        self.status: Body = {"targetVmCount": len(names), "createdVmCount": 0, "failedToCreateVmCount": 0, "status": "CREATING"}

    def begin(self) -> Body:
        world, scope, group = self.world, f"zones/{self.zone}", f"group-{self.world.number()}"
        refused = set(self.names[self.room :])
        rolls_back = world.rolls_back or (self.least > self.room)
        if self.zone in world.room:
            world.room[self.zone] = max(0, self.room - len(self.names))
        for index, name in enumerate(self.names):
            item = _make(world, scope, name, self.properties)

            def finish(item: Item = item) -> Late:
                if self.late is not None or item.name in refused:
                    _unmake(world, item)
                    self.status["failedToCreateVmCount"] += 1
                    return self.late or (EXHAUSTED, FULL.format(self.zone))
                self.made.append(item.name)
                self.status["createdVmCount"] += 1
                return None

            world.operation("insert", scope, item.path, finish, group=group, lasts=world.duration * 0.9 + index * 1e-6)

        def over() -> Late:
            self.status["status"] = "DONE"
            if not rolls_back:
                return None if self.made else self.late or (EXHAUSTED, FULL.format(self.zone))
            for name in self.made:
                if (item := world.items.get(f"{scope}/instances/{name}")) is not None:
                    _unmake(world, item)
            self.status["deletedVmCount"] = len(self.made)
            self.status["status"] = "ROLLING_BACK"
            return "VM_MIN_COUNT_NOT_REACHED", "The requested minimum number of VMs could not be created"

        metadata = {"perLocationStatus": {scope: self.status}}
        lasts = world.duration * (2 if rolls_back else 1)
        more = {"instancesBulkInsertOperationMetadata": metadata}
        return world.operation(
            "bulkInsert", scope, f"{scope}/instances", over, request_id=self.request_id, group=group, lasts=lasts, **more
        )


def _must_exist(world: World, zone: str, properties: Body) -> None:
    kind = str(properties.get("machineType", ""))
    if "/" in kind or not (kind in catalog.MACHINE_TYPES or "-custom-" in kind):
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.instanceProperties.machineType': '{kind}'")
    must_be_ready(world, {"networkInterfaces": properties.get("networkInterfaces", [])})
    if not properties.get("networkInterfaces"):
        raise ApiError(400, "invalid", "At least one network interface is required.")
    for disk in properties.get("disks", ()):
        image = disk.get("initializeParams", {}).get("sourceImage", "")
        if image.rpartition("/")[2] not in catalog.IMAGES.values():
            raise ApiError(404, "notFound", f"The resource '{image}' was not found")
    for item in properties.get("metadata", {}).get("items", ()):
        if len(item.get("value", "").encode()) > 256 * 1024:
            raise ApiError(400, "invalid", f"Value for metadata key '{item['key']}' is too large")


def _make(world: World, scope: str, name: str, properties: Body) -> Item:
    body = deepcopy(properties)
    body.update(kind="compute#instance", name=name)
    body["machineType"] = world.link(f"{scope}/machineTypes/{body['machineType']}")
    number = len(world.operations) + 2
    for card in body["networkInterfaces"]:
        card.update(name="nic0", networkIP=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
        for access in card.get("accessConfigs", ()):
            access["natIP"] = f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}"
    for index, disk in enumerate(body.get("disks", ())):
        parameters = disk.pop("initializeParams", {})
        boot = {
            "name": name,
            "sizeGb": parameters.get("diskSizeGb", "10"),
            "labels": parameters.get("labels", {}),
            "sourceImage": parameters["sourceImage"],
            "kind": "compute#disk",
        }
        made = world.add(scope, "disks", boot)
        disk.update(
            source=world.link(made.path), deviceName=disk.get("deviceName", f"persistent-disk-{index}"), index=index, boot=True
        )
    item = world.add(scope, "instances", body)
    item.body["labelFingerprint"] = f"l{world.number()}"
    item.body["lastStartTimestamp"] = item.body["creationTimestamp"]
    return item


def _unmake(world: World, item: Item) -> None:
    """The machine, and the disks that go along."""
    if world.items.get(item.path) is item:
        world.remove(item.path)
        for disk in item.body.get("disks", ()):
            if disk.get("autoDelete"):
                world.remove(world.local(disk["source"]))
        for group in world.items.values():  # a machine that is gone is no endpoint any more
            group.extra.get("endpoints", {}).pop(item.name, None)


def delete(world: World, item: Item, request_id: str, late: Late) -> Body:
    if item.deleting:
        raise ApiError(400, "resourceNotReady", f"The resource '{item.path}' is not ready")
    item.deleting = True

    def finish() -> Late:
        if late is None:
            _unmake(world, item)
        item.deleting = False
        return late

    return world.operation("delete", item.scope, item.path, finish, request_id=request_id)


def attach_disk(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    item = _instance(world, at)
    path = world.local(body["source"])
    disk = world.items.get(path)
    if disk is None:
        raise missing(world, path)
    if disk.scope != item.scope:
        raise ApiError(400, "invalid", "The disk must be in the same zone as the instance")
    user = next((i for i in world.items.values() if i.collection == "instances" and has(world, i, disk)), None)
    if user is not None:
        raise in_use(world, disk, user.path)
    kind = item.body["machineType"].rpartition("/")[2]
    most = catalog.machine_type(kind, at["zone"], world.most_disks)["maximumPersistentDisks"]
    if len(item.body["disks"]) >= most:
        raise ApiError(
            400, "limitExceeded", f"Exceeded limit 'maximum_persistent_disks' on resource '{item.name}'. Limit: {most}.0"
        )

    def finish() -> Late:
        if late is None and world.items.get(item.path) is item:
            item.body["disks"].append({**body, "source": world.link(path), "index": len(item.body["disks"])})
        return late

    return world.operation("attachDisk", item.scope, item.path, finish, request_id=query.get("requestId", ""))


def detach_disk(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    item, device = _instance(world, at), query["deviceName"]
    if not any(d["deviceName"] == device for d in item.body["disks"]):
        raise ApiError(400, "invalid", f"No attached disk found with device name '{device}'")

    def finish() -> Late:
        if late is None:
            item.body["disks"] = [d for d in item.body["disks"] if d["deviceName"] != device]
        return late

    return world.operation("detachDisk", item.scope, item.path, finish, request_id=query.get("requestId", ""))


def serial_port(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    contents = _instance(world, at).extra.get("console", "SeaBIOS\nLinux version 6.1\nlogin: ")
    return {"kind": "compute#serialPortOutput", "contents": contents, "start": "0", "next": str(len(contents))}


def reset(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    item = _instance(world, at)
    return world.operation("reset", item.scope, item.path, request_id=query.get("requestId", ""))


def _instance(world: World, at: Mapping[str, str]) -> Item:
    item = world.items.get(f"zones/{at['zone']}/instances/{at['instance']}")
    if item is None:
        raise missing(world, f"zones/{at['zone']}/instances/{at['instance']}")
    return item
