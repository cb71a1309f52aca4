"""A project on Google Compute Engine, without Google: what the real google-cloud-compute client talks to in tests.

`Emulator` is the server, `World` one project in it. It is written by us, so it proves the shape of requests and answers (each is
checked against Google's discovery document) and how we deal with what we know of Google's behaviour; not that behaviour.
"""

from .balancing import traffic
from .server import Emulator
from .world import World

__all__ = ["Emulator", "World", "traffic"]
