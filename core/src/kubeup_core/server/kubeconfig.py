"""The kubeconfig of the server: context `kubeup`, the authority's certificate and the token, in one file of mode 0600."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from ..statedir import write_private

NAME = "kubeup"


def write_kubeconfig(path: Path, url: str, ca: Path, token: str) -> None:
    """Replace the file. `url` is https://127.0.0.1:PORT, `ca` a PEM file."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
        "preferences": {},
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False))
