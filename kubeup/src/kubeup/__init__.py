"""The kubeup command: one command from nothing to running, self-healing machines and clusters.

`main.py` is the entry point, `commands/` has one module per command, imported only when it is called. What they share:
`manifests.py` (files to documents), `checks.py` (the whole set of files at once), `state.py` (where things live), `daemon.py`
(the server in the background), `assemble.py` (what a server is made of), `progress.py` and `output.py` (what people see).
"""

from importlib.metadata import version as _version

__version__ = _version("kubeup")
