"""What a URL says: `s3://BUCKET/FOLDER?endpoint=URL&region=NAME`. Pure; called by `build`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from kubeup_core import InvalidSpec

PATH = "spec.etcd.snapshots.to"
FORM = "write s3://BUCKET/FOLDER, with ?endpoint=https://... and &region=... where the store is not AWS's own"


@dataclass(frozen=True, kw_only=True)
class Location:
    """prefix: "" or a folder that ends in a slash. endpoint and region: "" leaves it to the SDK's own configuration."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""


def locate(url: str) -> Location:
    """Raises InvalidSpec, with the path of the field."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
        raise InvalidSpec(f"{url!r} does not name a bucket", path=PATH, remedy=FORM)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"endpoint", "region"})
    if unknown:
        raise InvalidSpec(f"{url!r} has the unknown option {unknown[0]}", path=PATH, remedy=FORM)
    endpoint = options.get("endpoint", "")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise InvalidSpec(f"{endpoint!r} is not the URL of an endpoint", path=PATH, remedy=FORM)
    folder = unquote(parts.path).strip("/")
    return Location(
        bucket=parts.netloc, prefix=f"{folder}/" if folder else "", endpoint=endpoint, region=options.get("region", "")
    )
