"""`python -m kubeup`: how the background server is started, so that it is this very installation."""

from .main import main

main()
