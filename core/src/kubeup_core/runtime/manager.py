"""Runs controllers: keeps the cache fed, the queue worked off, and every failure of one key away from all others.

The server starts it with threads; tests step it in one thread on a fake clock (`step`), where supplier calls run inline, so that a
whole life of a cluster is one deterministic sequence. Which controllers there are is in `controllers/`.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..client import Client, Event
from ..kinds import KINDS, Provider
from ..objects import Resource
from ..plugins import Plugins
from ..statuses import AlreadyExists, Conflict, NotFound
from .cache import Cache, CachedClient
from .calls import Calls, Dropped, InProgress
from .clock import Clock, SystemClock
from .controller import Controller, Env, Key, Result, own_key
from .events import Recorder
from .inventory import Inventory
from .places import Places
from .queue import Item, Queue

T = TypeVar("T")
Factory = Callable[[Env], Sequence[Controller]]

WORKERS = 16
"""Threads that reconcile. They mostly wait for the store, and the more wait together the more share one commit."""

log = logging.getLogger(__name__)


class Manager:
    """controllers: builds them, given the Env (`controllers.all_controllers`). inline: for `step`, no threads at all."""

    def __init__(
        self,
        client: Client,
        *,
        plugins: Plugins,
        installation: str,
        controllers: Factory,
        clock: Clock | None = None,
        inline: bool = False,
        workers: int = WORKERS,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.queue = Queue(self.clock)
        self.failed: list[tuple[Item, BaseException]] = []
        """The last failures of reconciles, for tests and for diagnosis."""
        self._inline = inline
        self._looked: dict[Item, float] = {}
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._writers = None if inline else ThreadPoolExecutor(workers, thread_name_prefix="writes")
        cache = Cache()
        places = Places(self.clock)
        places.on_change(lambda name: cache.replay(Provider, name))
        calls = Calls(self.clock, places, self._wake, inline=inline)
        cached = CachedClient(client, cache)
        inventory = Inventory(self.clock, places, calls, self._wake, installation)
        self.env = Env(
            client=cached,
            cache=cache,
            clock=self.clock,
            places=places,
            calls=calls,
            events=Recorder(cached, self.clock),
            plugins=plugins,
            installation=installation,
            inventory=inventory,
            wake=self._wake,
            together=self._together,
        )
        self._controllers = {controller.name: controller for controller in controllers(self.env)}
        self._calmed = {name for name, controller in self._controllers.items() if controller.lull}
        for controller in self._controllers.values():
            self._register(controller)

    def prepare(self) -> None:
        """Fill the cache and put every object before the controllers of its kind."""
        cache = self.env.cache
        kinds = [kind.model for kind in KINDS if kind.kind != "Event"]
        cache.follow(self.env.client, kinds)
        for controller in self._controllers.values():
            for kind, keys in self._sources(controller):
                for obj in cache.list(kind):
                    for key in keys(Event("ADDED", obj)):
                        self.queue.add((controller.name, key))

    def start(self) -> None:
        """Prepare, and work in threads until `stop`."""
        self.prepare()
        for n in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"reconcile-{n}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 10.0) -> None:
        """Finish what is being decided, start nothing new. Calls that are under way are found again after the next start."""
        self.queue.close()
        for thread in self._threads:
            thread.join(timeout)
        self.env.calls.close()
        self.env.cache.close()
        if self._writers is not None:
            self._writers.shutdown(wait=False)
        self.env.close_shared()
        for place in self.env.places.all():
            if place.built is not None:
                try:
                    place.built.close()
                except Exception as error:
                    log.debug("closing %s failed: %s", place.name, type(error).__name__)

    def step(self) -> int:
        """Work off what is due now, in this thread. Returns how many reconciles that took."""
        count = 0
        while (item := self.queue.poll()) is not None:
            self._reconcile(item)
            count += 1
        return count

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _register(self, controller: Controller) -> None:
        for kind, keys in self._sources(controller):
            handler = self._calm(controller, keys) if controller.lull else self._handler(controller.name, keys)
            self.env.cache.on_change(kind, handler)

    @staticmethod
    def _sources(controller: Controller) -> list[tuple[type[Resource], Callable[[Event[Any]], Iterable[Key]]]]:
        own = [(controller.kind, own_key)] if controller.kind is not None else []
        return [*own, *((watch.kind, watch.keys) for watch in controller.watches)]

    def _handler(self, name: str, keys: Callable[[Event[Any]], Iterable[Key]]) -> Callable[[Event[Any]], None]:
        def handle(event: Event[Any]) -> None:
            for key in keys(event):
                self.queue.add((name, key))

        return handle

    def _calm(self, controller: Controller, keys: Callable[[Event[Any]], Iterable[Key]]) -> Callable[[Event[Any]], None]:
        """The first change is looked at at once; those that follow closely are looked at together."""
        name, lull = controller.name, controller.lull

        def handle(event: Event[Any]) -> None:
            now = self.clock.awake()
            for key in keys(event):
                item = (name, key)
                self.queue.add(item, max(0.0, self._looked.get(item, float("-inf")) + lull - now))

        return handle

    def _wake(self, controller: str, key: Key, after: float = 0.0) -> None:
        self.queue.add((controller, key), after)

    def _work(self) -> None:
        while (item := self.queue.take()) is not None:
            self._reconcile(item)

    def _reconcile(self, item: Item) -> None:
        name, key = item
        try:
            if name in self._calmed:
                self._looked[item] = self.clock.awake()
            runner = self.env.inventory if name == Inventory.name else self._controllers[name]
            result = runner.reconcile(key)
        except InProgress as running:
            if running.after is not None:
                self.queue.add(item, running.after)
        except Dropped:
            self.queue.add(item, 1.0)
        except (Conflict, AlreadyExists, NotFound) as error:
            log.debug("%s %s decided on what has changed meanwhile: %s", name, "/".join(key), error)
            self.queue.retry(item)
        except Exception as error:
            self.failed = [*self.failed[-99:], (item, error)]
            delay = self.queue.retry(item)
            log.exception("%s %s failed; again in %.1f s", name, "/".join(key).lstrip("/"), delay)
            self._tell(item, error)
        else:
            self.queue.forget(item)
            self._again(item, result)
        finally:
            self.queue.done(item)

    def _tell(self, item: Item, error: Exception) -> None:
        """Whoever asks why nothing happens finds it at the object; the error's own words may hold what is not for everybody."""
        controller = self._controllers.get(item[0])
        if controller is None or controller.kind is None:
            return
        obj = self.env.cache.get(controller.kind, item[1].name, item[1].namespace)
        if obj is not None:
            message = (
                f"kubeup's {controller.name} controller failed on this with {type(error).__name__}; it is tried again by itself. "
                "`kubeup logs` has the whole of it: please report it"
            )
            self.env.events.event(obj, "Warning", "InternalError", message)

    def _again(self, item: Item, result: Result) -> None:
        if result.after is not None:
            self.queue.add(item, result.after, slow=result.slow)
            return
        controller = self._controllers.get(item[0])
        if controller is None or controller.kind is None:
            return
        if self.env.cache.get(controller.kind, item[1].name, item[1].namespace) is not None:
            jitter = 0.8 + zlib.crc32(repr(item).encode()) % 100 / 500
            self.queue.add(item, controller.resync * jitter, slow=True)

    def _together(self, work: Sequence[Callable[[], T]]) -> list[T]:
        if self._writers is None or len(work) < 2:
            return [one() for one in work]
        futures = [self._writers.submit(one) for one in work]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]
