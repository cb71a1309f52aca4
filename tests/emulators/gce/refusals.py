"""The refusals that several requests share, in Google's words."""

from __future__ import annotations

from .world import ApiError, Body, Item, World


def missing(world: World, path: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource 'projects/{world.project}/{path}' was not found")


def in_use(world: World, item: Item, user: str) -> ApiError:
    ours, theirs = f"projects/{world.project}/{item.path}", f"projects/{world.project}/{user}"
    sentence = f"The {item.collection.rstrip('s')} resource '{ours}' is already being used by '{theirs}'"
    return ApiError(400, "resourceInUseByAnotherResource", sentence)


def must_be_ready(world: World, body: Body) -> None:
    """Everything that a body names is there, and finished."""
    for path in world.mentions(body):
        if path.split("/")[-2] in ("machineTypes", "diskTypes", "images"):
            continue
        item = world.items.get(path)
        if item is None:
            raise missing(world, path)
        if world.now() < item.ready_at or item.deleting:
            raise ApiError(400, "resourceNotReady", f"The resource 'projects/{world.project}/{path}' is not ready")
