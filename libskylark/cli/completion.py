"""`skylark completion`: the script with which a shell completes commands and options, as click makes it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_SKYLARK_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands and options when Tab is pressed.

    \b
    bash:  eval "$(skylark completion bash)"    in ~/.bashrc
    zsh:   eval "$(skylark completion zsh)"     in ~/.zshrc, after compinit
    fish:  skylark completion fish > ~/.config/fish/completions/skylark.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "skylark", _VARIABLE).source())
