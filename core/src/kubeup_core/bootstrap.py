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
    if verbs.store.restored and installation.status.restored_at is None and not installation.spec.paused:
        installation.spec.paused = True
        installation = client.update(installation)
    return _report(client, installation, verbs, now)


def _report(client: InProcess, installation: Installation, verbs: Verbs, now: float) -> Installation:
    status = installation.status.model_copy(deep=True)
    status.id = verbs.store.installation
    status.observed_generation = installation.metadata.generation
    generation = installation.metadata.generation
    if verbs.store.restored:
        status.restored_at = status.restored_at or timestamp(now)
        status.set_condition("Restored", True, "RestoredCopy", RESTORED, now=now, generation=generation)
    if installation.spec.paused:
        why = "Restored" if verbs.store.restored else "Paused"
        message = RESTORED if verbs.store.restored else PAUSED
        status.set_condition("Ready", False, why, message, now=now, generation=generation)
    elif not verbs.store.restored:
        status.set_condition("Ready", True, "Working", now=now, generation=generation)
    if status == installation.status:
        return installation
    return client.update_status(installation.model_copy(update={"status": status}))
