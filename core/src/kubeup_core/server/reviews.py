"""The three reviews that kubectl asks: may I, what may I, who am I. Whoever has the token may do everything."""

from __future__ import annotations

from typing import Any

import orjson

from ..objects import timestamp
from ..statuses import BadRequest, MethodNotAllowed
from ..verbs import Actor
from .bodies import decode
from .http import Request, Send, answer
from .negotiation import body_type

_REVIEWS = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": ("authentication.k8s.io/v1", "SelfSubjectReview"),
}


def is_review(path: str) -> bool:
    return path in _REVIEWS


async def review(request: Request, send: Send, actor: Actor, now: float) -> None:
    version, kind = _REVIEWS[request.path]
    if request.method != "POST":
        raise MethodNotAllowed("the server does not allow this method on the requested resource", kind=kind.lower() + "s")
    media = body_type(request.header(b"content-type"), protobuf=True)
    body = decode(await request.body(), media, "Ignore", [])
    if not isinstance(body, dict) or body.get("kind", kind) != kind or body.get("apiVersion", version) != version:
        raise BadRequest(f"the body must be a {kind} of {version}")
    spec = body.get("spec") or {}
    answered: dict[str, Any] = {"kind": kind, "apiVersion": version, "metadata": {"creationTimestamp": None}}
    if kind == "SelfSubjectReview":
        answered["metadata"] = {"creationTimestamp": timestamp(now)}
        answered["status"] = {"userInfo": {"username": actor.user, "groups": list(actor.groups)}}
    elif kind == "SelfSubjectAccessReview":
        reason = f"{actor.user} is in {', '.join(actor.groups[:1])}"
        answered |= {"spec": spec, "status": {"allowed": True, "reason": reason}}
    else:
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        urls = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        status = {"resourceRules": [everything], "nonResourceRules": [urls], "incomplete": False}
        answered |= {"spec": spec, "status": status}
    await answer(send, 201, orjson.dumps(answered))
