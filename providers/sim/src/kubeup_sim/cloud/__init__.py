"""The simulated place itself: an account of a cloud that remembers, takes time, runs out and breaks.

It knows nothing of kubeup: it has tags, tokens and its own error codes, like any vendor's. The provider (the modules beside this
folder) reaches it only through `client.py`; tests and people also reach it through `console.py`, behind kubeup's back.
"""

from .account import Cloud, open_cloud
from .console import Console
from .errors import CloudError, ConnectionLost
from .faults import FAULTS, Fault
from .settings import Capacity, Quota, Settings

__all__ = [
    "Capacity",
    "Cloud",
    "CloudError",
    "ConnectionLost",
    "Console",
    "FAULTS",
    "Fault",
    "Quota",
    "Settings",
    "open_cloud",
]
