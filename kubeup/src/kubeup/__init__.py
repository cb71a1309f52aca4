"""The kubeup command: one command from nothing to running, self-healing machines and clusters.

`main.py` is the entry point, `commands/` has one module per command, imported only when it is called. What they share:
`manifests.py` (files to documents), `checks.py` (the whole set of files at once), `state.py` (where things live), `daemon.py`
(the server in the background), `assemble.py` (what a server is made of), `connect.py` and `api.py` (the way to a server),
`follow.py`, `screen.py` and `output.py` (what people see), `reasons.py` (why something is not Ready).
"""


def __getattr__(name: str) -> str:
    """`kubeup.__version__`, looked up when asked for: importlib.metadata costs more than all else that a command imports."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kubeup")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
