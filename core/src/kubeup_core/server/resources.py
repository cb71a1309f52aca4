"""The hot routes: get, list, watch, create, update, patch, delete of all kinds, as plain ASGI over `verbs`.

Each handler reads the request, calls one verb, and writes its bytes. Writes wait for the disk and run in threads of a pool; a
get is quicker than handing it to a thread.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..runtime.clock import Clock
from ..statuses import MethodNotAllowed, NotFound
from ..verbs import Actor, Answer, DeleteOptions, Options, Verbs
from . import shapes
from .bodies import decode, decode_patch
from .http import Request, Send, answer, answer_text, compressed, positive_int
from .negotiation import LIST, OBJECT, PLAIN, PROTOBUF, Wanted, body_type, negotiate, patch_type
from .parameters import delete_options, validation, write_options
from .routes import Target
from .threads import Threads
from .watches import Watches, ask

T = TypeVar("T")

NOT_FOUND = "404 page not found\n"


class Resources:
    def __init__(self, verbs: Verbs, watches: Watches, clock: Clock, threads: Threads) -> None:
        self._verbs = verbs
        self._watches = watches
        self._clock = clock
        self._in_thread = threads.run

    async def handle(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        """Raises what is wrong as a StatusError."""
        method = "GET" if request.method == "HEAD" else request.method
        if target.subresource:
            await self._subresource(method, request, send, target, actor)
        elif method == "GET" and (target.watch or (not target.name and request.flag("watch"))):
            await self._watch(request, send, target)
        elif target.name:
            await self._named(method, request, send, target, actor)
        else:
            await self._collection(method, request, send, target, actor)

    async def _collection(self, method: str, request: Request, send: Send, target: Target, actor: Actor) -> None:
        kind = target.served.kind
        if method == "GET":
            await self._list(request, send, target)
        elif kind.namespaced and target.namespace is None:
            await answer_text(send, 404, NOT_FOUND)
        elif method == "POST":
            await self._create(request, send, target, actor)
        elif method == "DELETE" and kind.deletecollection:
            await self._delete_collection(request, send, target, actor)
        else:
            raise _not_allowed(target)

    async def _named(self, method: str, request: Request, send: Send, target: Target, actor: Actor) -> None:
        if method == "GET":
            await self._get(request, send, target)
        elif method == "PUT":
            await self._update(request, send, target, actor)
        elif method == "PATCH":
            await self._patch(request, send, target, actor)
        elif method == "DELETE":
            await self._delete(request, send, target, actor)
        else:
            raise _not_allowed(target)

    async def _subresource(self, method: str, request: Request, send: Send, target: Target, actor: Actor) -> None:
        kind, sub = target.served.kind, target.subresource
        finalize = sub == "finalize" and kind.kind == "Namespace"
        if not (finalize or (sub == "status" and kind.has_status) or (sub == "scale" and kind.scale)):
            message = "the server could not find the requested resource"
            raise NotFound(message, name=target.name, group=kind.group, kind=kind.plural)
        if method == "PUT":
            await self._update(request, send, target, actor)
        elif method == "GET" and not finalize:
            await self._get(request, send, target)
        elif method == "PATCH" and not finalize:
            await self._patch(request, send, target, actor)
        else:
            raise _not_allowed(target)

    # -- reads -----------------------------------------------------------------------------------------------------------

    async def _get(self, request: Request, send: Send, target: Target) -> None:
        wanted = negotiate(request.header(b"accept"), OBJECT)
        sub = "scale" if target.subresource == "scale" else ""
        data = self._verbs.get(target.served.stored, target.namespace or "", target.name, sub)
        await self._send_object(request, send, target, data, wanted)

    async def _list(self, request: Request, send: Send, target: Target) -> None:
        wanted = negotiate(request.header(b"accept"), LIST)
        query, served = request.query, target.served
        limit = positive_int(query, "limit")

        def read() -> bytes:
            page = self._verbs.list(
                served.stored,
                target.namespace if served.kind.namespaced else None,
                labels=query.get("labelSelector", ""),
                fields=query.get("fieldSelector", ""),
                limit=limit,
                continue_=query.get("continue", ""),
                resource_version=query.get("resourceVersion", ""),
                match=query.get("resourceVersionMatch", ""),
            )
            include = query.get("includeObject", "Metadata")
            return shapes.many(served, page, wanted, now=self._clock.wall(), include=include)

        body, headers = compressed(request, await self._in_thread(read))
        await answer(send, 200, body, wanted.content_type, headers)

    async def _watch(self, request: Request, send: Send, target: Target) -> None:
        wanted = negotiate(request.header(b"accept"), OBJECT)
        namespace = target.namespace if target.served.kind.namespaced else None
        await self._watches.stream(request, send, ask(request, target.served, namespace, target.name), wanted)

    # -- writes ----------------------------------------------------------------------------------------------------------

    async def _create(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        obj, options, wanted = await self._read(request, target, "CreateOptions")
        served = target.served
        obj = served.inward(obj, create=True)
        done = await self._in_thread(lambda: self._verbs.create(served.stored, target.namespace or "", obj, actor, options))
        await self._send_answer(request, send, target, done, wanted)

    async def _update(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        obj, options, wanted = await self._read(request, target, "UpdateOptions")
        served = target.served
        obj = served.inward(obj)
        done = await self._in_thread(
            lambda: self._verbs.update(served.stored, target.namespace or "", target.name, obj, actor, options)
        )
        await self._send_answer(request, send, target, done, wanted)

    async def _patch(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        served = target.served
        wanted = negotiate(request.header(b"accept"), OBJECT)
        how = patch_type(request.header(b"content-type"), strategic=served.kind.builtin)
        strictness = validation(request, "PatchOptions")
        twice: list[str] = []
        patch = served.inward_patch(decode_patch(await request.body(), how, strictness, twice))
        options = write_options(request, "PatchOptions", target.subresource, twice)
        done = await self._in_thread(
            lambda: self._verbs.patch(served.stored, target.namespace or "", target.name, patch, how, actor, options)
        )
        await self._send_answer(request, send, target, done, wanted)

    async def _delete(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        wanted = negotiate(request.header(b"accept"), OBJECT)
        options = await self._delete_options(request)
        served = target.served
        done = await self._in_thread(
            lambda: self._verbs.delete(served.stored, target.namespace or "", target.name, actor, options)
        )
        is_object = done.rv != 0
        if is_object:
            await self._send_answer(request, send, target, done, wanted)
        else:
            await answer(send, 200, shapes.to_yaml(done.data) if wanted.yaml else done.data, wanted.content_type)

    async def _delete_collection(self, request: Request, send: Send, target: Target, actor: Actor) -> None:
        wanted = negotiate(request.header(b"accept"), ("",))
        options = await self._delete_options(request)
        query, served = request.query, target.served
        done = await self._in_thread(
            lambda: self._verbs.delete_collection(
                served.stored, target.namespace or "", actor, options,
                labels=query.get("labelSelector", ""), fields=query.get("fieldSelector", ""),
            )
        )  # fmt: skip
        await answer(send, 200, shapes.deleted(served, done.data, wanted), wanted.content_type)

    # -- parts -----------------------------------------------------------------------------------------------------------

    async def _read(self, request: Request, target: Target, kind: str) -> tuple[Any, Options, Wanted]:
        wanted = negotiate(request.header(b"accept"), OBJECT)
        protobuf = target.served.kind.builtin or target.subresource == "scale"
        media = body_type(request.header(b"content-type"), protobuf=protobuf)
        twice: list[str] = []
        obj = decode(await request.body(), media, validation(request, kind), twice)
        # Protobuf leaves out what it has by the URL.
        if media == PROTOBUF and isinstance(obj, dict):
            obj.setdefault("metadata", {})
        return obj, write_options(request, kind, target.subresource, twice), wanted

    async def _delete_options(self, request: Request) -> DeleteOptions:
        data = await request.body()
        if not data.strip():
            return delete_options(request, None)
        media = body_type(request.header(b"content-type"), protobuf=True)
        return delete_options(request, decode(data, media, "Ignore", []))

    async def _send_answer(self, request: Request, send: Send, target: Target, done: Answer, wanted: Wanted) -> None:
        headers = [(b"warning", _warning(text)) for text in done.warnings]
        await self._send_object(request, send, target, done.data, wanted, 201 if done.created else 200, headers)

    async def _send_object(
        self,
        request: Request,
        send: Send,
        target: Target,
        data: bytes,
        wanted: Wanted,
        code: int = 200,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        if target.subresource == "scale":
            data = shapes.to_yaml(data) if wanted.yaml else data
        elif wanted != PLAIN or target.served.converted:
            include = request.query.get("includeObject", "Metadata")
            data = shapes.one(target.served, data, wanted, now=self._clock.wall(), include=include)
        await answer(send, code, data, wanted.content_type, headers or ())


def _not_allowed(target: Target) -> MethodNotAllowed:
    kind = target.served.kind
    message = "the server does not allow this method on the requested resource"
    return MethodNotAllowed(message, group=kind.group, kind=kind.plural)


def _warning(text: str) -> bytes:
    """A Warning header (RFC 7234, 5.5). Nothing that a client sent may end the line."""
    quoted = "".join(c if c.isprintable() else "?" for c in text[:300]).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'.encode()
