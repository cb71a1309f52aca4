"""The only import of boto3: one bucket, and the SDK's errors by named sets of codes.

Called by `store.py` from a thread that may block. Credentials are the Secret's where one is named, else what boto3 finds by itself
(environment, profile, instance role). Uploads are multipart as boto3 decides, so an object appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error, S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from kubeup_core import Denied, InvalidSpec, NotFound, NotReady, SupplierError

from .location import PATH, Location

T = TypeVar("T")

ABSENT = {"NoSuchKey", "404", "NotFound"}
NO_BUCKET = {"NoSuchBucket"}
DENIED = {
    "AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "TokenRefreshRequired", "AuthorizationHeaderMalformed", "AllAccessDisabled", "AccountProblem",
}  # fmt: skip
"""Codes of the S3 API's "Error responses" page; 403 and 404 are what a HEAD request has instead of a code."""

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What a Secret must hold; AWS_SESSION_TOKEN may be there too."""


class Bucket:
    """One bucket. Thread-safe, as boto3's clients are."""

    def __init__(self, place: Location, secrets: Mapping[str, str]) -> None:
        lacking = [key for key in KEYS if not secrets.get(key)] if secrets else []
        if lacking:
            raise InvalidSpec(
                f"the Secret for {place.bucket} has no {' and no '.join(lacking)}",
                path="spec.etcd.snapshots.secretRef",
                remedy=f"put {' and '.join(KEYS)} into it",
            )
        self._name = place.bucket
        self._where = place.endpoint or "S3"
        self._client: Any = _call(
            self._where,
            lambda: boto3.session.Session(
                aws_access_key_id=secrets.get(KEYS[0]),
                aws_secret_access_key=secrets.get(KEYS[1]),
                aws_session_token=secrets.get("AWS_SESSION_TOKEN"),
                region_name=place.region or None,
            ).client(
                "s3",
                endpoint_url=place.endpoint or None,
                region_name=place.region or None,
                config=Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "max_attempts": 3}),
            ),
        )

    def put(self, key: str, file: Path) -> None:
        extra = {"ServerSideEncryption": "AES256"} if self._where == "S3" else {}
        self._do(lambda: self._client.upload_file(str(file), self._name, key, ExtraArgs=extra))

    def get(self, key: str, file: Path) -> None:
        """boto3 downloads into a name of its own and renames."""
        self._do(lambda: self._client.download_file(self._name, key, str(file)))

    def list(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """(key, bytes, epoch seconds) of what lies directly in a folder, all pages."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix, Delimiter="/")
        for page in self._do(lambda: list(pages)):
            for item in page.get("Contents") or ():
                yield item["Key"], item["Size"], item["LastModified"].timestamp()

    def delete(self, key: str) -> None:
        """S3 deletes what is not there with success."""
        self._do(lambda: self._client.delete_object(Bucket=self._name, Key=key))

    def close(self) -> None:
        self._client.close()

    def _do(self, call: Callable[[], T]) -> T:
        return _call(f"bucket {self._name} at {self._where}", call)


def _call(where: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except SupplierError:
        raise
    except ClientError as error:
        raise decided(where, error) from error
    except S3UploadFailedError as error:
        cause = error.__context__
        raise (decided(where, cause) if isinstance(cause, ClientError) else _silent(where, error)) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise Denied(
            f"{where}: no credentials: {error}", remedy="name a Secret in spec.etcd.snapshots.secretRef, or set AWS_PROFILE"
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise _silent(where, error) from error
    except ValueError as error:
        raise InvalidSpec(f"{where}: {error}", path=PATH) from error


def decided(where: str, error: ClientError) -> SupplierError:
    """The decision that an answer of the store asks for."""
    said = error.response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", "") or error)
    request_id = str(error.response.get("ResponseMetadata", {}).get("RequestId", ""))
    text = f"{where}: {message}"
    if code in ABSENT:
        return NotFound(text, code=code, request_id=request_id)
    if code in NO_BUCKET:
        return InvalidSpec(text, path=PATH, code=code, request_id=request_id, remedy="make the bucket, or name another one")
    if code in DENIED:
        remedy = "give its user s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject on the folder"
        return Denied(text, code=code, request_id=request_id, remedy=remedy)
    return NotReady(text, code=code, request_id=request_id)


def _silent(where: str, error: Exception) -> NotReady:
    return NotReady(f"{where} does not answer: {error}", remedy="it is tried again by itself")
