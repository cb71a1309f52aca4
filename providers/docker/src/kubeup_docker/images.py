"""Which image a machine is made from, and getting it onto the engine without anybody waiting.

machines.py asks `resolve` when it makes offers, launching.py `ensure` before it creates. A pull can take minutes, so it runs in a
thread of its own while `ensure` answers NotReady; the thread belongs to these suppliers and ends with them.
Without a registry, `python -m kubeup_docker image` makes the image of a family on the spot (`__main__.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from kubeup_core import NotReady, SupplierError

from .client import Engine
from .records import Image

FAMILIES: Mapping[str, tuple[str, ...]] = {"debian-12": ("kubeup-debian:12", "debian:12")}
"""Family -> images, best first: the first that is on the engine, else the last is pulled. The first of each is what
`python -m kubeup_docker image` makes."""

WITHOUT_SYSTEMD = frozenset(images[-1] for images in FAMILIES.values())
"""Plain images of a registry: known not to run Kubernetes, without pulling them first."""

BUILD = "python -m kubeup_docker image"


class Images:
    """Of one engine. Thread-safe."""

    def __init__(self, engine: Engine, default: str | None, named: Mapping[str, str]) -> None:
        """default: the config's image; named: Provider.spec.images, which wins."""
        self._engine = engine
        self._default = default
        self._named = named
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}
        self._closed = threading.Event()
        self._seen: dict[str, Image] = {}

    def known(self, family: str) -> bool:
        """Whether `resolve` finds an image for this family."""
        return bool(family in self._named or self._default or family in FAMILIES)

    def resolve(self, family: str) -> str:
        """The name of the image for a known family."""
        if chosen := self._named.get(family) or self._default:
            return chosen
        *made_here, pulled = FAMILIES[family]
        return next((name for name in made_here if self._look(name)), pulled)

    def seen(self, family: str, name: str | None) -> Image | None:
        """The image as it was when it was last looked at, without asking the engine. name: wins over the family."""
        chosen = name or self._named.get(family) or self._default
        names = (chosen,) if chosen else FAMILIES.get(family, ())
        return next((self._seen[n] for n in names if n in self._seen), None)

    def ensure(self, image: str) -> Image:
        """The image, when it is on the engine; else starts or follows its pull, and raises NotReady.

        A pull that failed is told once, and started anew by the next call.
        """
        if (found := self._look(image)) is not None:
            return found
        with self._lock:
            pull = self._pulls.get(image)
            if pull is None or (pull.done and pull.error is None):
                pull = self._pulls[image] = _Pull()
                threading.Thread(target=self._run, args=(image, pull), name=f"pull {image}", daemon=True).start()
            elif pull.error is not None:
                del self._pulls[image]
                raise failed(image, pull.error)
        raise NotReady(f"pulling image {image}{pull.progress and ': '}{pull.progress}", retry_after=2)

    def close(self) -> None:
        """Pulls end at their next word; what they have fetched so far stays on the engine."""
        self._closed.set()

    def _look(self, name: str) -> Image | None:
        found = self._engine.image(name)
        if found is not None:
            self._seen[name] = found
        return found

    def _run(self, image: str, pull: _Pull) -> None:
        try:
            for progress in self._engine.pull(image):
                pull.progress = progress
                if self._closed.is_set():
                    break
        except SupplierError as error:
            pull.error = error
        finally:
            pull.done = True


class _Pull:
    """What a pull's thread tells: `error` is set before `done`."""

    progress = ""
    error: SupplierError | None = None
    done = False


def failed(image: str, error: SupplierError) -> SupplierError:
    """The same decision, with what to do about it."""
    ours = [family for family, images in FAMILIES.items() if image in images]
    make = f"make it here with `{BUILD}`" if ours else "load it (docker load, docker import, docker build)"
    told = type(error)(
        f"image {image} is not on the engine and could not be pulled: {error.message}",
        code=error.code,
        remedy=f"{make}, or name another image in spec.images of the Provider",
    )
    told.__cause__ = error
    return told
