"""The options that all commands on a production root share, and what they open."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from commandline import Terminated, progress_console
from serving.client.options import GRPC_ADDRESS, REST_ADDRESS
from serving.client.protocol import AnswerError, UnreachableError
from serving.errors import SIGNING_PACKAGES
from serving.promotion import plan
from serving.promotion.errors import GateFailedError, PromotionError, RolledBackError, ServerUnreachableError
from serving.promotion.history import BrokenHistoryError
from serving.promotion.plan import Stage
from serving.promotion.production import Production
from serving.promotion.proxy import Share
from serving.promotion.rollout import DiskFailedError, StageFailedError, carry_out, take_up
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server, servers
from user_error import UserError
from whole_file import write_json

if TYPE_CHECKING:
    from serving.signing import Signer, Verifier

# In front of what to do about it.
BROKEN = ("the history is broken, {}; bring back a copy of history.jsonl, or put it elsewhere: a new one then begins "
          "with the next promotion, which knows no version to go back to")
# A model that no server has: asking for it shows whether a server answers.
_NOBODY = "a-model-that-no-server-has"

Command = TypeVar("Command", bound=Callable[..., Any])


no_proxy_option = click.option(
    "--no-proxy", is_flag=True, help="Go on without the proxy that shares out the traffic: it is gone for good.")


sign_option = click.option(
    "--sign", type=click.Path(path_type=Path), metavar="KEY",
    help="Sign what is done with this private key (PEM, P-256), which only you may read.")


def signer_of(key: Path | None) -> Signer | None:
    """Raises PromotionError for a key that cannot be used."""
    if key is None:
        return None
    with _packages():
        from serving.signing import Signer
        return Signer.at(key)


def verifier_of(key: Path | None) -> Verifier | None:
    """Raises PromotionError for a key that cannot be used."""
    if key is None:
        return None
    with _packages():
        from serving.signing import Verifier
        return Verifier.at(key)


def refuse_forged(verifier: Verifier, version: Path, model: str) -> None:
    """Raises GateFailedError unless a production version, and what was proven of it, are what was signed."""
    try:
        verifier.require_proven(version, model)
    except UserError as error:
        raise GateFailedError(str(error)) from None


@contextmanager
def _packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise PromotionError(f"{error}: {SIGNING_PACKAGES}") from None


def root_option(command: Command) -> Command:
    return click.option("--root", default="production", show_default=True, metavar="DIR",
                        help="The production root.")(command)


def hosts_of(rests: Sequence[str], grpcs: Sequence[str]) -> list[Server]:
    """The servers that the options name; without any, the one that `./tfserving.sh production` starts."""
    return servers(rests, grpcs) if rests or grpcs else servers([f"http://{REST_ADDRESS}"], [GRPC_ADDRESS])


@contextmanager
def promotion_errors() -> Iterator[None]:
    """Every error that a user can cause, with the exit status of these commands."""
    try:
        yield
    except PromotionError:
        raise
    except UnreachableError as error:
        raise ServerUnreachableError(str(error)) from None
    except DiskFailedError as error:
        raise PromotionError(f"{error}; the next command on this root takes up what was under way") from None
    except StageFailedError as error:
        raise ServerUnreachableError(f"{error}; the next command on this root takes up what was under way") from None
    except BrokenHistoryError as error:
        raise PromotionError(BROKEN.format(error)) from None
    except (UserError, AnswerError) as error:
        raise PromotionError(str(error)) from None


def in_words(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command's function in `promotion_errors`; with `json_path`, why it did nothing is there."""
    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with promotion_errors():
                return command(*args, **kwargs)
        except PromotionError as error:
            if path := kwargs.get("json_path"):
                write_json(path, plan.finite({"done": False, "why": str(error), **error.facts}))
            raise
    return wrapped


def say(line: str) -> None:
    progress_console().print(line, markup=False, soft_wrap=True)


def finish_what_was_begun(production: Production, no_proxy: bool = False) -> plan.Operation | None:
    """Takes up an operation that was interrupted, `no_proxy` without its proxy, and says how it ended. Returns it if it
    was finished: who asks for the same again has got it."""
    left = production.root.journal()
    if left is None:
        return None
    say(f"an interrupted {left.kind} of {left.model} is taken up, at {left.stage}")
    if no_proxy:
        left = plan.with_facts(left, {"share": replace(Share.of(left), proxy=None).to_json()})
    ended = take_up(left, production)
    if ended.stage is Stage.RECORD:
        say("it was finished")
        return ended
    say(f"it was undone: {ended.why}")
    return None


def require_reachable(production: Production, model: str) -> None:
    """Raises UnreachableError unless every server answers, and PromotionError if one serves another root, or if a base
    path of the configuration is missing: then TensorFlow Serving would look at no model's versions any more."""
    file = production.root.config()
    for host in production.hosts:
        host.states(_NOBODY)
    if (own := file.entry(model)) is not None:
        if own.base_path != str(production.root.base_path(model)):
            raise PromotionError(f"{file.path}: the base path of {model} is {own.base_path}, and versions are promoted "
                                 f"to {production.root.base_path(model)}: name that one, or another --root")
        if own.model_version_policy.WhichOneof("policy_choice") != "specific":
            raise PromotionError(f"{file.path}: the version policy of {model} lets a server load what it finds, before "
                                 "it is checked: name its versions, model_version_policy { specific { versions: 1 } }")
    if alias := file.chooses_among(model, production.root.base_path(model)):
        raise PromotionError(f"{file.path}: {alias} serves the versions of {model} too, and lets a server load what it "
                             "finds, before it is checked: name its versions, model_version_policy { specific { "
                             "versions: 1 } }")
    for entry in file.message.model_config_list.config:
        if entry.base_path.startswith("/") and not production.root.path.joinpath(entry.base_path).is_dir():
            raise PromotionError(f"{file.path}: the base path of {entry.name}, {entry.base_path}, is not there: a "
                                 "server looks for no version of any model then; make it, or take the model out")
    for host in production.hosts:
        # Of a version that was unloaded a server still knows that it has ended.
        if model not in file.models and set(host.states(model).values()) - {"END", "UNLOADING"}:
            raise PromotionError(f"{host.name} has a model {model}, which {file.path} does not name: it serves another "
                                 "root or none")
        for known in file.models:
            if not host.states(known):
                raise PromotionError(f"{host.name} does not know {known}, which {file.path} names: it serves another "
                                     f"root, or was started without --model_config_file={file.path}")
            labels = file.served(known).labels
            if plan.STABLE in labels and host.labelled(known, plan.STABLE) not in (None, *labels.values()):
                raise PromotionError(f"{host.name} has label stable of {known} on a version that {file.path} gives no "
                                     "label: it serves another root, or somebody told it otherwise; see `status`")


def require_done(ended: plan.Operation) -> None:
    """Raises RolledBackError for an operation that was undone, PromotionError if no server had seen anything of it."""
    if ended.stage is Stage.RECORD:
        return
    if not plan.was_in_production(ended):
        raise PromotionError(f"{ended.why}; production is as it was", operation=ended.to_json())
    raise RolledBackError(f"the {ended.kind} of {ended.model} was taken back: {ended.why}", operation=ended.to_json())


def carried_out(operation: plan.Operation, production: Production) -> plan.Operation:
    """Does an operation. If it is interrupted (Ctrl-C, SIGTERM), it is taken up at once: undone, or finished."""
    try:
        return carry_out(operation, production)
    except (KeyboardInterrupt, Terminated):
        if (left := production.root.journal()) is not None:
            say("interrupted: production is put right first; once more, and the next command on this root does it")
            ended = take_up(left, production)
            say(f"it was {'finished' if ended.stage is Stage.RECORD else 'undone'}")
        raise


def opened(root: str, rests: Sequence[str], grpcs: Sequence[str], make: bool = False, sign: Path | None = None
           ) -> Production:
    """The root with its servers; `sign`: the private key that what is done is signed with."""
    signer = signer_of(sign)
    return Production(ProductionRoot.made(root) if make else ProductionRoot.at(root), hosts_of(rests, grpcs),
                      signer=signer)
