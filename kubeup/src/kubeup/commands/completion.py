"""`kubeup completion bash|zsh|fish`: the script to source."""

from __future__ import annotations

import os

import click

FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/kubeup.fish"}


@click.command("completion")
@click.argument("shell", type=click.Choice(sorted(FILES)), required=False)
def command(shell: str | None) -> None:
    """Print the completion script of your shell.

    \b
    source <(kubeup completion bash)                                # now
    echo 'source <(kubeup completion bash)' >> ~/.bashrc            # always
    kubeup completion fish > ~/.config/fish/completions/kubeup.fish
    """
    from click.shell_completion import get_completion_class

    from ..main import cli

    shell = shell or os.path.basename(os.environ.get("SHELL", "bash"))
    completion = get_completion_class(shell if shell in FILES else "bash")
    if completion is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion(cli, {}, "kubeup", "_KUBEUP_COMPLETE").source())
