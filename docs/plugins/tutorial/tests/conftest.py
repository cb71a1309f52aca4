"""Makes the tutorial's two files importable by their names, as they are for an author who has installed the package."""

import sys
from pathlib import Path

from kubeup_core.plugins import load_file

for name in ("toy_cloud", "kubeup_toy"):
    if name not in sys.modules:
        sys.modules[name] = load_file(Path(__file__).parents[1] / f"{name}.py")
