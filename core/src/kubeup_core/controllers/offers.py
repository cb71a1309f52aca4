"""Which offer each waiting machine takes: pure decisions, called by `placement.py` with what it has gathered.

Options come in the order of the pool's offers, and within one as the place gave them (cheapest first). The first machine type that
is not cooling down is taken, spread over its zones; the next one only where that has no room. So machines go back to what is
preferred as soon as it is believed to have room again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..kinds.nodepool import OfferSpec
from ..runtime.places import Cool, Place
from ..supplier import Offer, Template


@dataclass(frozen=True, kw_only=True)
class Option:
    """One offer of one place. rank: which of the pool's offers it belongs to."""

    place: Place
    want: Template
    offer: Offer
    rank: int


@dataclass
class Choice:
    """Machines (by position in the list that was given) that go into Launches of one option, with the slots picked for them."""

    option: Option
    machines: list[int] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)


def fits(spec: OfferSpec | None, offer: Offer) -> bool:
    """Whether an offer is one that the pool's entry means. Spot is in the wish already."""
    if spec is None:
        return True
    if spec.zones and offer.place not in spec.zones:
        return False
    if spec.spot is not None and offer.spot != spec.spot:
        return False
    return spec.machine_type in (None, offer.machine_type)


DEAR = 2.0
"""A larger machine type is taken instead of the one that fits as long as it costs (or holds) at most so many times as much: rather
no machine for a while, or one of the pool's next offer, than one at thirty times the price."""


def affordable(offers: Sequence[Offer]) -> list[Offer]:
    """offers: cheapest first, of one place. Those that are not out of proportion to the first, and of its architecture: a pool
    must not change that only because there was no room for a moment."""
    if not offers:
        return []
    first = offers[0]

    def fair(offer: Offer) -> bool:
        if offer.arch != first.arch:
            return False
        if offer.price_per_hour is not None and first.price_per_hour:
            return offer.price_per_hour <= DEAR * first.price_per_hour
        return offer.cpu <= DEAR * first.cpu and offer.memory <= DEAR * DEAR * first.memory

    return [offer for offer in offers if fair(offer)]


def choose(
    options: Sequence[Option],
    count: int,
    *,
    cooling: Callable[[Option], Cool | None],
    room: Callable[[Option], int],
    took: Callable[[Option], None],
    used: dict[tuple[str, str], int],
    taken: Callable[[Option], set[str]],
    suits: Callable[[int, Option], bool],
    spread: bool,
) -> tuple[list[Choice], list[int]]:
    """Give each of `count` machines an option. -> the choices, and the machines that are left over.

    cooling  the lack of capacity that an option falls under, if any
    room     how many more an option may take now
    took     is told of each machine that takes an option, and counts `room` down and `used` up
    used     machines of the pool by (provider, zone)
    taken    slots of a place that are spoken for; the set is added to
    suits    whether an option is possible for a machine (its volumes)
    """
    left = list(range(count))
    choices: dict[int, Choice] = {}
    for group in _groups([o for o in options if cooling(o) is None]):
        for index in list(left):
            option = _best([o for o in group if suits(index, o)], room, used, taken, spread)
            if option is None:
                continue
            choice = choices.setdefault(id(option), Choice(option))
            choice.machines.append(index)
            choice.slots.append(_slot(option, taken))
            took(option)
            left.remove(index)
        if not left:
            break
    return list(choices.values()), left


def _groups(options: Sequence[Option]) -> list[list[Option]]:
    """Options alike but for the zone, in order of preference."""
    groups: dict[tuple[object, ...], list[Option]] = {}
    for option in options:
        o = option.offer
        groups.setdefault((option.rank, option.place.name, o.machine_type, o.spot, o.arch), []).append(option)
    return list(groups.values())


def _best(
    group: Sequence[Option],
    room: Callable[[Option], int],
    used: dict[tuple[str, str], int],
    taken: Callable[[Option], set[str]],
    spread: bool,
) -> Option | None:
    able = []
    for option in group:
        free = option.offer.slots is None or any(s not in taken(option) for s in option.offer.slots)
        if free and room(option) > 0:
            able.append(option)
    if not able:
        return None
    return min(able, key=lambda o: used.get((o.place.name, o.offer.place), 0)) if spread else able[0]


def _slot(option: Option, taken: Callable[[Option], set[str]]) -> str:
    if option.offer.slots is None:
        return ""
    slots = taken(option)
    slot = next(s for s in option.offer.slots if s not in slots)
    slots.add(slot)
    return slot
