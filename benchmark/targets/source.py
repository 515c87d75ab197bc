"""Where requests go and what they contain: one value, made once from a command's options."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmark.targets.inputs import Inputs
from benchmark.targets.target import IN_PROCESS, PROTOCOLS, Target, find_target
from user_error import UserError

Protocol = Literal["rest", "grpc", "in-process"]


@dataclass(frozen=True)
class Source:  # decision 107
    """The variants of a model, servers that run already, and the inputs that are sent to all of them."""

    model: str = "mnist"
    models: Path = Path("models")
    inputs: Inputs = field(default_factory=Inputs)
    server_flags: tuple[str, ...] = ()
    grappler: bool = True
    running: tuple[Target, ...] = ()

    def target(self, text: str) -> Target:
        """The target named `variant`, `backend:variant` or either with `@engine`. Raises UserError if there is none.
        """
        return find_target(text, self.models, self.model, self.server_flags, self.inputs.signature, self.grappler)

    def targets(self, variants: Sequence[str], otherwise: str | None = "original") -> list[Target]:
        """The targets to measure: the named variants and the running servers, or `otherwise` if there are none.

        A target that is named twice gets a second name. Raises UserError for an option without effect on any target.
        """
        found = distinct([*map(self.target, variants), *self.running])
        if not found and otherwise is not None:
            found = [self.target(otherwise)]
        if found:
            self.refuse_without_effect(found)
        return found

    def refuse_without_effect(self, found: Sequence[Target]) -> None:
        """Raises UserError if --grappler or --server-flag was given and has no effect on any of the targets."""
        in_process = [target for target in found if target.backend in IN_PROCESS and target.by_tensorflow]
        started = [target for target in found if target.backend not in (*IN_PROCESS, "address")]
        if not self.grappler and not in_process:
            raise UserError(f"--grappler is for targets in process that TensorFlow runs, and {_names(found)} is none: "
                            "name session:VARIANT or predictor:VARIANT")
        if self.server_flags and not started:
            raise UserError(f"--server-flag is for servers that are started here, and {_names(found)} is not: name a "
                            "variant, such as original")


def distinct(found: Sequence[Target]) -> list[Target]:
    """The targets with unique names: if a variant is named twice (an A/A run), the second is called "NAME #2"."""
    seen: dict[str, int] = {}
    named = []
    for target in found:
        seen[target.name] = seen.get(target.name, 0) + 1
        named.append(replace(target, name=f"{target.name} #{seen[target.name]}") if seen[target.name] > 1 else target)
    return named


def protocol_for(found: Sequence[Target], asked: str | None, otherwise: Protocol) -> Protocol:
    """The protocol over which a scenario sends requests to all targets; "in-process" if no target is a server.

    Raises UserError if `asked` has no effect, or if a target has no address for the protocol.
    """
    if all(target.backend in IN_PROCESS for target in found):
        if asked is not None:
            raise UserError(f"--protocol is for servers, and {_names(found)} runs in process: leave it out")
        return "in-process"
    protocol: Protocol = otherwise if asked is None else "rest" if asked == "rest" else "grpc"
    for target in found:
        if protocol not in target.protocols:
            raise UserError(f"{target.name} has no address for {protocol}: give --url for rest, --grpc for grpc")
    return protocol


def protocols_for(found: Sequence[Target], asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The protocols of a comparison: those asked for, else all that every target supports."""
    if all(target.backend in IN_PROCESS for target in found):
        return (protocol_for(found, ",".join(asked) if asked else None, "grpc"),)
    return asked or tuple(name for name in PROTOCOLS if all(name in target.protocols for target in found))


def _names(found: Sequence[Target]) -> str:
    return " or ".join(target.name for target in found)
