"""python -m serving status: a model on a running server or, with --root, a whole production root on its servers."""
from typing import Any

import click

from serving.client import status
from serving.client.options import server_options
from user_error import UserError


@click.option("--root", metavar="DIR", help="Show a production root, and how the servers of --rest and --grpc differ.")
@click.option("--html", "html_path", metavar="FILE", help="Write a page with the state of a --root, too.")
@server_options
@click.pass_context
def _either(context: click.Context, /, root: str | None, rests: tuple[str, ...], grpcs: tuple[str, ...],
            html_path: str | None, json_path: str | None, **options: Any) -> int:
    if root is not None:
        # Imported here: who asks about one model does not pay for it.
        from serving.promotion.options import in_words
        from serving.promotion.state import show_root
        return int(in_words(show_root)(root, rests, grpcs, html_path, json_path=json_path))
    if html_path:
        raise UserError("--html shows a production root: add --root")
    if rests or grpcs:
        raise UserError("--rest and --grpc name the servers of a --root; --address names one server")
    return int(context.invoke(status.command, json_path=json_path, **options))


command = click.command("status", help=status.command.help, epilog=f"""{status.command.epilog}
\b
  python -m serving status --root production            # all models of a production root, and what differs
  python -m serving status --root production --html status.html
""")(_either)
command.params += status.command.params
