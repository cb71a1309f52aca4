"""The only import of the SDK: sessions, one call at a time, pages, and what a broken connection means.

Called by all suppliers. Each request is charged before it goes out, and goes out once: the SDK's own retries are off, as they would
hide a lack of capacity and spend a budget that all clusters share. Only a read whose connection broke is sent a second time.
Error codes become decisions in `decisions.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidConfigError,
    InvalidRegionError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError
from kubeup_core import Context, Denied, InvalidSpec, NotReady, Place, SupplierError, Unknown

from .budgets import bucket
from .config import AwsConfig
from .decisions import decided

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What a Secret must hold; AWS_SESSION_TOKEN may be there too."""

LOADER = create_loader()
"""The SDK's descriptions of services, 10 MB of JSON, read once per process and not at each build."""

SETTINGS = Config(
    connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 1}, max_pool_connections=16, user_agent_extra="kubeup"
)

TOKENS = ("NextToken", "NextMarker")


class Aws:
    """One account in one region. Thread-safe, as the SDK's clients are."""

    def __init__(self, config: AwsConfig, context: Context) -> None:
        self._charge = context.charge
        try:
            session = _session(config, context)
            self.region: str = session.region_name or ""
            self._client = _Clients(session, {"endpoint_url": config.endpoint_url, "config": SETTINGS})
            self._client("ec2")
        except NoRegionError as error:
            raise InvalidSpec("no region is given", path="spec.config.region", remedy="write one, such as eu-west-1") from error
        except InvalidRegionError as error:
            raise InvalidSpec(str(error), path="spec.config.region", remedy="write one, such as eu-west-1") from error
        except ProfileNotFound as error:
            raise InvalidSpec(
                str(error), path="spec.credentials.profile", remedy="aws configure list-profiles shows them"
            ) from error
        except BotoCoreError as error:
            raise _broken("credentials", error) from error

    def call(self, service: str, action: str, *, scope: Place | None = None, members: int = 0, **params: Any) -> dict[str, Any]:
        """One request. scope: the offer of a launch; members: how many machines it is about, which have a budget of their own.

        Raises the decisions of `decisions.py`; Unknown where the connection broke after the request may have gone out.
        """
        for name, cost in bucket(service, action, members):
            self._charge(name, cost)
        try:
            answer: dict[str, Any] = getattr(self._client(service), action)(**params)
        except ClientError as error:
            raise _answered(action, error, scope) from error
        except ParamValidationError as error:
            raise InvalidSpec(f"{action}: {error}") from error
        except (BotoCoreError, ResponseParserError) as error:
            raise _broken(action, error) from error
        return answer

    def read(self, service: str, action: str, **params: Any) -> dict[str, Any]:
        """A request that changes nothing: a second try where the connection broke, as an idle one may have been closed."""
        try:
            return self.call(service, action, **params)
        except Unknown as error:
            if error.code != DROPPED:
                raise
            return self.call(service, action, **params)

    def pages(self, service: str, action: str, key: str, **params: Any) -> list[dict[str, Any]]:
        """All pages of a listing; raises when one of them fails."""
        items: list[dict[str, Any]] = []
        while True:
            answer = self.read(service, action, **params)
            items += answer.get(key) or ()
            more = next((answer[token] for token in TOKENS if answer.get(token)), None)
            if more is None:
                return items
            params["Marker" if service == "elbv2" else "NextToken"] = more

    def close(self) -> None:
        self._client.close()


class _Clients:
    """A client of a service is made when it is first asked: reading a service's description costs as much as a request. Thread-safe."""

    def __init__(self, session: boto3.session.Session, options: Mapping[str, Any]) -> None:
        self._session, self._options = session, options
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        with self._lock:
            if service not in self._made:
                self._made[service] = self._session.client(service, **self._options)
            return self._made[service]

    def close(self) -> None:
        for client in self._made.values():
            client.close()


DROPPED = "connection"
"""Code of the Unknown for a connection that broke."""


CREDENTIALS = (
    NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, NoAuthTokenError, TokenRetrievalError, SSOError,
    MetadataRetrievalError, RefreshWithMFAUnsupportedError, ConfigNotFound, ConfigParseError, InvalidConfigError,
)  # fmt: skip
"""There are none, or they cannot be read or renewed."""


def _session(config: AwsConfig, context: Context) -> boto3.session.Session:
    core = botocore.session.get_session()
    core.register_component("data_loader", LOADER)
    secrets: Mapping[str, str] = {key: value for key, value in context.secrets.items() if key.startswith("AWS_")}
    if secrets and (lacking := [key for key in KEYS if not secrets.get(key)]):
        raise InvalidSpec(
            f"the Secret has no {' and no '.join(lacking)}",
            path="spec.credentials.secretRef",
            remedy=f"put {' and '.join(KEYS)} into it",
        )
    session = boto3.session.Session(
        aws_access_key_id=secrets.get(KEYS[0]),
        aws_secret_access_key=secrets.get(KEYS[1]),
        aws_session_token=secrets.get("AWS_SESSION_TOKEN"),
        region_name=config.region or secrets.get("AWS_REGION") or os.environ.get("AWS_REGION"),
        botocore_session=core,
        profile_name=context.profile or None,
    )
    if config.assume_role is None:
        return session
    role = config.assume_role
    source = session.get_credentials()
    if source is None:
        raise NoCredentialsError
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda name, **kwargs: session.client(
            name, **{**kwargs, "endpoint_url": config.endpoint_url, "region_name": session.region_name, "config": SETTINGS}
        ),
        source_credentials=source,
        role_arn=role.role_arn,
        extra_args={"RoleSessionName": role.session_name} | ({"ExternalId": role.external_id} if role.external_id else {}),
    )
    other = botocore.session.get_session()
    other.register_component("data_loader", LOADER)
    other._credentials = DeferredRefreshableCredentials(method="assume-role", refresh_using=fetcher.fetch_credentials)
    return boto3.session.Session(botocore_session=other, region_name=session.region_name)


def _answered(action: str, error: ClientError, scope: Place | None) -> SupplierError:
    said, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    return decided(
        action,
        str(said.get("Code", "")),
        str(said.get("Message", "")),
        status=int(about.get("HTTPStatusCode", 400)),
        request_id=str(about.get("RequestId", "")),
        scope=scope,
    )


def _broken(action: str, error: Exception) -> SupplierError:
    if isinstance(error, CREDENTIALS):
        remedy = "set AWS_PROFILE or the usual variables, name a profile or a Secret in spec.credentials"
        return Denied(f"{action}: no credentials: {error}", remedy=remedy)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ProxyConnectionError):
        return NotReady(f"{action}: AWS does not answer: {error}", remedy="it is tried again by itself")
    return Unknown(f"{action}: the answer was lost: {error}", code=DROPPED)  # TLS may break before the request or after it
