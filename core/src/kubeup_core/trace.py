"""KUBEUP_TRACE=1: every call of a supplier, with its result and time, as one line on stderr.

`plugins.py` puts this around what a build returned. Secrets and user-data never show: fields that hold them are left out of
their dataclasses' repr, bytes show as their length, what goes through `execute` likewise, and values of resolved Secrets are
blotted out wherever they turn up. Ordinary logging is elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO, cast

from .supplier import LoadBalancerSupplier, MachineSupplier, NetworkSupplier, Suppliers, VolumeSupplier

_LONGEST = 400
_SHORTEST_SECRET = 4  # blotting out "1" or "no" would only make lines unreadable


def tracing() -> bool:
    return os.environ.get("KUBEUP_TRACE", "") not in ("", "0")


def traced(
    suppliers: Suppliers,
    label: str,
    secrets: Sequence[str] = (),
    out: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Suppliers:
    """The same suppliers, each call of which prints one line to `out` (stderr). label: whose they are, usually the type."""
    pen = _Pen(label, secrets, out, clock)
    return replace(
        suppliers,
        machines=cast(MachineSupplier, _Traced(suppliers.machines, "machines", pen)),
        networks=cast(NetworkSupplier, _Traced(suppliers.networks, "networks", pen)) if suppliers.networks else None,
        load_balancers=cast(LoadBalancerSupplier, _Traced(suppliers.load_balancers, "load_balancers", pen))
        if suppliers.load_balancers
        else None,
        volumes=cast(VolumeSupplier, _Traced(suppliers.volumes, "volumes", pen)) if suppliers.volumes else None,
        probe=pen.around("probe", suppliers.probe),
        close=pen.around("close", suppliers.close),
    )


class _Traced:
    """Stands for a supplier: every method prints, everything else is the supplier's own."""

    def __init__(self, target: object, part: str, pen: _Pen) -> None:
        self._target, self._part, self._pen = target, part, pen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or name.startswith("_"):
            return value
        around = self._pen.around_stream if name == "execute" else self._pen.around
        return around(f"{self._part}.{name}", value)


class _Pen:
    def __init__(self, label: str, secrets: Sequence[str], out: TextIO | None, clock: Callable[[], float]) -> None:
        self._label, self._out, self._clock = label, out, clock
        self._secrets = sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = self._clock()
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                self._line(name, args, kwargs, f"raised {error!r}", began)
                raise
            self._line(name, args, kwargs, f"-> {_shown(result)}", began)
            return result

        return wrapped

    def around_stream(self, name: str, call: Callable[..., Iterator[bytes | int]]) -> Callable[..., Iterator[bytes | int]]:
        """For execute: the line comes when the stream ends, and neither the script nor the output is in it."""

        def wrapped(ref: Any, *args: Any, **kwargs: Any) -> Iterator[bytes | int]:
            began, size, code = self._clock(), 0, "no exit code"
            try:
                for part in call(ref, *args, **kwargs):
                    if isinstance(part, int):
                        code = f"exit code {part}"
                    else:
                        size += len(part)
                    yield part
            except BaseException as error:
                code = f"raised {error!r}"
                raise
            finally:
                self._line(name, (ref,), {}, f"-> {size} bytes, {code}", began)

        return wrapped

    def _line(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: str, began: float) -> None:
        given = ", ".join([*(_shown(arg) for arg in args), *(f"{key}={_shown(value)}" for key, value in kwargs.items())])
        text = f"{name}({given}) {result}"
        for secret in self._secrets:
            text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")
        out = self._out or sys.stderr
        out.write(f"kubeup trace: {self._label} {_cut(text)} {self._clock() - began:.3f}s\n")  # one write: threads do not mix


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return repr(value)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
