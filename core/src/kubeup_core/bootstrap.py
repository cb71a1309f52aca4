"""What must be there before anybody asks: the namespace `default` and the Installation `kubeup`.

Called once by whoever starts a server or a test harness, after the store is open and before controllers run. Doing it again
changes nothing.
"""

from __future__ import annotations

from contextlib import suppress

from .inprocess import InProcess
from .kinds import Installation, Namespace
from .kinds.installation import NAME
from .objects import ObjectMeta, timestamp
from .statuses import AlreadyExists
from .verbs import Verbs

RESTORED = (
    "this state was restored from a backup, or its file was copied: things made after the backup are not known here. "
    "Nothing is changed anywhere until you have looked at what exists (kubeup status) and set spec.paused to false"
)
PAUSED = "paused: nothing is changed anywhere; set spec.paused to false to go on"


def bootstrap(verbs: Verbs, *, now: float) -> Installation:
    """`now`: epoch seconds. A store that was found to be a restored copy is paused, and says so."""
    client = InProcess(verbs)
    for wanted in (Namespace(metadata=ObjectMeta(name="default")), Installation(metadata=ObjectMeta(name=NAME))):
        with suppress(AlreadyExists):
            client.create(wanted)
    installation = client.get(Installation, NAME)
    if not verbs.store.restored:
        return _report(client, installation, verbs.store.installation, now)
    if not installation.spec.paused:
        installation.spec.paused = True
        installation = client.update(installation)
    installation.status.restored_at = timestamp(now)
    installation = _report(client, installation, verbs.store.installation, now)
    # From here on the Installation itself says so, until a person un-pauses it.
    verbs.store.acknowledge_restore()
    return installation


def _report(client: InProcess, installation: Installation, id_: str, now: float) -> Installation:
    status = installation.status.model_copy(deep=True)
    status.id = id_
    generation = status.observed_generation = installation.metadata.generation
    if not installation.spec.paused:
        status.set_condition("Ready", True, "Working", now=now, generation=generation)
    elif status.restored_at is not None:
        status.set_condition("Ready", False, "Restored", RESTORED, now=now, generation=generation)
    else:
        status.set_condition("Ready", False, "Paused", PAUSED, now=now, generation=generation)
    return client.update_status(installation.model_copy(update={"status": status}))
