"""The first requests to a target and its answers, which all later answers are compared with.

Inputs made from metadata alone can be useless for a model: words that are in none of its tables, ids out of range, text
that is no tf.Example. If the model's files are known, `python -m export samples` makes others from its graph.
"""
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmark.targets.connections import Connection
from benchmark.targets.export_command import ExportError
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import Instance, first_request
from commandline import step
from serving.client import answers
from serving.client.payloads import Array, Arrays
from serving.client.protocol import AnswerError, Signature, UnreachableError
from user_error import FailedError

# Every target answers every input before it is measured. Of a slow model so many are enough, once they took so long:
# but for labelled ones, whose answers' accuracy is stated.
ENOUGH, ENOUGH_S = 2, 4.0


@dataclass(frozen=True)
class FirstAnswers:
    """An open connection, different inputs, the answer to each, and in words where the inputs are from.

    constant: why the answers prove nothing, if all of them are the same.
    """

    connection: Connection
    batches: list[Arrays]
    expected: list[dict[str, Array]]
    inputs: str
    constant: str | None


def first_answers(inputs: Inputs, instance: Instance, connect: Callable[[], Connection], batch: int,
                  version: Path | None, vary: bool = False) -> FirstAnswers:  # decision 156
    """Opens a connection to the instance and asks for the first time. `version`: the model's files, if they are known.

    If the model cannot use what was made from its metadata, its inputs are made from its graph. Raises AnswerError or
    UnreachableError if a request fails, FailedError if no inputs can be made or, with `vary`, if all answers are equal.
    """
    with ExitStack() as stack:
        connection = _opened(connect, stack)
        signature, name, found = connection.signature(), instance.target.name, None
        guessed = version is not None and inputs.made(signature, batch, version)
        why = _unmakeable(signature) if guessed else None
        if why is None:
            try:
                found = _asked(inputs, instance, connection, signature, batch, version)
                why = "answers the same to all inputs made from its metadata" if found.constant else None
            except (FailedError, UnreachableError) as error:
                why = _refusal(error, instance) if guessed else None
                if why is None:
                    raise
        if guessed and why and version is not None:
            try:
                with step(f"{name} {why}: make them with python -m export samples"):
                    inputs.from_graph(signature, batch, version)
            except ExportError as error:
                if found is None or vary:
                    raise FailedError(f"{name} {why}, and python -m export samples makes no others: {error}") from None
            else:
                if instance.dies():
                    instance.restart()
                    connection = _opened(connect, stack)
                found = _asked(inputs, instance, connection, signature, batch, version)
        assert found is not None  # else an error was raised
        if vary and found.constant:
            raise FailedError(f"{name}: {found.constant}; real ones can be given with --samples FILE.npz")
        stack.pop_all()
        return found


def _opened(connect: Callable[[], Connection], stack: ExitStack) -> Connection:
    connection = connect()
    stack.callback(connection.close)
    return connection


def _unmakeable(signature: Signature) -> str | None:
    """Why inputs must not be made from the metadata alone, if they must not.

    Random letters are words that no model knows. TensorFlow does not check the rank of what it is fed, and ends the
    process if an operation meets another than it expects.
    """
    for key, spec in signature.inputs.items():
        if spec.dtype.kind == "O":
            return f"takes strings as '{key}', and its metadata does not say which"
        if spec.shape is None:
            return f"takes '{key}' of unknown rank"
    return None


def _refusal(error: Exception, instance: Instance) -> str | None:
    """Why the inputs are useless, if that is why the request failed."""
    if isinstance(error, AnswerError):
        return f"refuses the inputs made from its metadata ({error.message})"
    return "dies of the inputs made from its metadata" if instance.dies() else None


def _asked(inputs: Inputs, instance: Instance, connection: Connection, signature: Signature, batch: int,
           version: Path | None) -> FirstAnswers:
    batches, words = inputs.batches(signature, batch, version)
    expected: list[dict[str, Array]] = []
    began = perf_counter()
    for each in batches:
        expected.append(connection.decode(first_request(instance, connection, each)))
        if len(expected) >= ENOUGH and perf_counter() - began > ENOUGH_S \
                and inputs.labels(signature, batch, version) is None:
            break
    if len(expected) < len(batches):
        batches, words = batches[:len(expected)], f"{words}: the first {len(expected)}"
    # Equality with a model that answers the same to everything proves nothing.
    proof = answers.prove((each, each) for each in expected)
    return FirstAnswers(connection, batches, expected, words,
                        proof.reasons[0] if not proof.equal and batch * len(batches) > 1 else None)
