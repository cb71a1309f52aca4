"""The contract tests, one module per supplier, on one rig.

`rig.py` is what an author fills in; `bench.py` is what the tests work with; `ensured.py` holds what networks, load balancers and
volumes have in common. Authors import all of it from `kubeup_core.testing`.
"""
