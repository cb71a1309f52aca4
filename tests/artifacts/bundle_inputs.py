"""The folder that `kubeup bundle create --from` packs: what a machine needs to become a node without any registry or mirror.

    bin/      kubeadm kubelet kubectl, and the stand-in for crictl
    images/   one OCI tar an image
    cni/      those of Debian's CNI plugins that pod networks here use

Everything is linked, not copied, from the other artifacts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from .build import artifact
from .images import cni_plugins, images
from .kubernetes import VERSIONS, binaries

NODE_COMMANDS = ("kubeadm", "kubelet", "kubectl")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
CRICTL = Path(__file__).parent / "files" / "crictl"


def bundle_inputs(version: str = VERSIONS[0]) -> Path:
    """The finished folder. Raises CannotBuild."""
    folder = binaries(version)
    wanted = {f"bin/{name}": folder / name for name in NODE_COMMANDS} | {"bin/crictl": CRICTL}
    wanted |= {f"images/{tar.name}": tar for tar in images(version).values()}
    wanted |= {f"cni/{name}": cni_plugins() / name for name in CNI_PLUGINS}

    def make(path: Path) -> None:
        for name, file in wanted.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            if file == CRICTL:
                shutil.copy(file, path / name)
            else:
                os.link(file, path / name)

    inputs = {name: "/".join(file.parts[-3:]) for name, file in wanted.items()}
    inputs["bin/crictl"] = hashlib.sha256(CRICTL.read_bytes()).hexdigest()
    return artifact(f"bundle-inputs-{version}", {"files": inputs}, make, suffix="")
