"""What tests need and Python cannot bring: system packages, images, a Docker engine. Imported as `kubeup_artifacts`.

The root conftest.py gives this folder that name, so that nothing called `tests` is importable.
"""
