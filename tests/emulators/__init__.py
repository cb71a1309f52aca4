"""Places that exist only in tests, as real clients see them: HTTP servers that speak a cloud's own protocol.

The root conftest.py loads this folder under the import name `kubeup_emulators`, for the tests of all distributions.
"""
