"""What other installations have at a place: looked at when a person asks for it (`kubeup leaks`), listed, and never touched.

Suppliers show an installation its own marks only; this asks them for everybody's, once per value of the annotation
`kubeup.dev/look-around`. Nothing is decided from it: what is ours and unwanted is the sweeper's.
"""

from __future__ import annotations

from ..errors import SupplierError
from ..kinds import Provider
from ..kinds.provider import LOOK_AROUND, Around, ForeignResource
from ..runtime.controller import Controller, Env, Key, Result
from ..runtime.inventory import SOON
from ..runtime.places import Place
from ..supplier import EVERY, Mark, Phase, Scope
from .in_use import KINDS_THERE

SHOWN = 100


class LookAroundController(Controller):
    name = "look-around"
    kind = Provider

    def __init__(self, env: Env) -> None:
        self.watches = ()
        super().__init__(env)

    def reconcile(self, key: Key) -> Result:
        provider, place = self.env.cache.get(Provider, key.name), self.env.places.get(key.name)
        asked = provider.annotations.get(LOOK_AROUND) if provider is not None else None
        if provider is None or asked is None or (provider.status.around and provider.status.around.asked == asked):
            return Result()
        if place is None or not place.usable:
            around = Around(asked=asked, message=place.why if place else "it has not answered yet")
        elif not self._swept(place):
            return Result(after=SOON)
        else:
            around = self._look(place, key, asked)
        changed = self.env.cache.copy(provider)
        changed.status.around = around
        self.env.client.update_status(changed)
        return Result()

    def _swept(self, place: Place) -> bool:
        """Whether every kind of thing was observed there, also those that no object asks about: leaks of ours are found in that."""
        missing = False
        for what in KINDS_THERE:
            if getattr(place.suppliers, what) is not None:
                self.env.inventory.want(place, what, soon=True)
                seen, failing = self.env.inventory.snapshot(place, what), self.env.inventory.failing(place, what)
                missing = missing or (seen is None and not failing)
        return not missing

    def _look(self, place: Place, key: Key, asked: str) -> Around:
        try:
            found = self.env.calls.do(
                place, f"provider/{place.name}", "look-around", lambda: list(self._everything(place)),
                wake=(self.name, key), token=asked, mutating=False,
            )  # fmt: skip
        except SupplierError as error:
            return Around(asked=asked, message=f"{error.message}; {error.remedy}" if error.remedy else error.message)
        foreign = sorted((one for one in found if one.installation != self.env.installation), key=_order)
        return Around(asked=asked, foreign=foreign[:SHOWN], count=len(foreign))

    @staticmethod
    def _everything(place: Place) -> list[ForeignResource]:
        """Of all installations, ours too. Runs in a thread of the place's."""
        found = []
        for what in KINDS_THERE:
            supplier = getattr(place.suppliers, what)
            if supplier is None:
                continue
            seen = supplier.observe(Scope(installation=EVERY))
            found += [
                _line(item.ref.id, item.ref.mark, getattr(item, "price_per_hour", None))
                for item in seen.items
                if item.phase is not Phase.GONE
            ]
            found += [_line(ref.id, ref.mark, None) for ref in seen.strays]
        return found


def _line(id_: str, mark: Mark, price: float | None) -> ForeignResource:
    return ForeignResource(
        installation=mark.installation, kind=mark.kind, id=id_, cluster=mark.cluster_name, price_per_hour=price
    )


def _order(one: ForeignResource) -> tuple[str, str, str, str]:
    return (one.installation, one.cluster, one.kind, one.id)
