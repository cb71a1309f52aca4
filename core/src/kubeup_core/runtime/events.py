"""Events: what happened to an object, in words for people, as Kubernetes' Event objects.

Used by all controllers. The same event again only counts, and is written at most once a minute: a re-check that finds nothing new
writes nothing. Recording never raises and never holds up a reconcile for its own sake.
"""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import dataclass
from typing import Literal

from ..client import Client
from ..kinds.builtins import Event, EventSource, ObjectReference
from ..objects import ObjectMeta, Resource, timestamp
from ..statuses import StatusError
from .clock import Clock

COMPONENT = "kubeup"
GAP = 60.0
REMEMBERED = 5_000
LONGEST = 1_000

log = logging.getLogger(__name__)


@dataclass
class _Known:
    event: Event
    count: int
    written: float


class Recorder:
    """Thread-safe."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], _Known] = {}

    def event(self, obj: Resource, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """reason: CamelCase for programs; message: a sentence for people that names the next thing they can do."""
        message = message[:LONGEST]
        what = (obj.uid, reason, message)
        now = self._clock.wall()
        with self._lock:
            known = self._known.get(what)
            if known is not None:
                known.count += 1
                if self._clock.awake() - known.written < GAP:
                    return
                known.written = self._clock.awake()
        try:
            if known is None:
                self._remember(what, self._client.create(self._new(obj, type, reason, message, now)))
            else:
                again = known.event.model_copy(update={"count": known.count, "last_timestamp": timestamp(now)})
                known.event = self._client.update(again)
        except StatusError as error:
            with self._lock:
                self._known.pop(what, None)
            log.debug("an event was not recorded: %s", error)

    def _remember(self, what: tuple[str, str, str], event: Event) -> None:
        with self._lock:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[what] = _Known(event, 1, self._clock.awake())

    @staticmethod
    def _new(obj: Resource, type: str, reason: str, message: str, now: float) -> Event:
        namespace = obj.namespace or "default"
        return Event(
            metadata=ObjectMeta(name=f"{obj.name}.{secrets.token_hex(8)}", namespace=namespace),
            involved_object=ObjectReference(
                kind=obj.kind,
                namespace=obj.metadata.namespace,
                name=obj.name,
                uid=obj.metadata.uid,
                api_version=obj.api_version,
                resource_version=obj.metadata.resource_version,
            ),
            reason=reason,
            message=message,
            type=type,
            source=EventSource(component=COMPONENT),
            reporting_component=COMPONENT,
            first_timestamp=timestamp(now),
            last_timestamp=timestamp(now),
            count=1,
        )
