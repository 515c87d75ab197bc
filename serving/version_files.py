"""Models as files: which versions lie in a directory, what is wrong with it, and in which words that is told."""
from collections.abc import Callable, Iterable
from pathlib import Path

from serving.config import Model
from serving.errors import ServingError
from serving.versions import found, wanted


def unservable(models: Iterable[Model], check: Callable[[Path], object]) -> dict[str, str]:
    """Why no model can be served, as far as their files tell: name -> reasons; nothing as soon as one could be.

    Args:
        check: raises ServingError for a version's directory that is no SavedModel.
    """
    reasons: dict[str, str] = {}
    for model in models:
        seen = on_disk(model)
        if isinstance(seen, str):
            reasons[model.name] = failure(model.name, None, seen)
            continue
        found_wrong = []
        for number in sorted(wanted(model.policy, seen), reverse=True):
            try:
                check(Path(model.base_path, seen[number]))
            except ServingError as error:
                found_wrong.append(failure(model.name, number, error))
            else:
                return {}
        reasons[model.name] = ", ".join(found_wrong) or failure(model.name, None, no_versions(model))
    return reasons


def failure(name: str, number: int | None, error: ServingError | str) -> str:
    """A version, or a whole model, and why it does not answer, as the original writes it."""
    servable = f"name: {name}" if number is None else f"name: {name} version: {number}"
    reason = error if isinstance(error, str) else f"{error.code.name}: {error.message}"
    return f"{{{{{servable}}} due to error: {reason}}}"


def no_versions(model: Model) -> str:
    """What is wrong with a directory that has none of the wanted versions."""
    return (f"NOT_FOUND: No versions of servable {model.name} found under base path {model.base_path}. Did you forget "
            "to name your leaf directory as a number (eg. '/1/')?")


def on_disk(config: Model) -> dict[int, str] | str:
    """The versions in a model's directory, or what is wrong with it."""
    try:
        return found(entry.name for entry in Path(config.base_path).iterdir())
    except OSError as error:
        return (f"NOT_FOUND: Could not find base path {config.base_path} for servable {config.name} "
                f"with error {error.strerror}")
