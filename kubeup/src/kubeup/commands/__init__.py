"""One module per command. `main.py` imports a module only when its command is called."""
