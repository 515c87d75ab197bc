"""Models as files: which versions a directory has, what is wrong with it, and the messages that say so."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from serving.config import Model
from serving.errors import UNREADABLE, Code, ServingError, not_found
from serving.remote_path import RemotePath, StorageError, path_of
from serving.versions import wanted
from version_directory import numbered

# Which directory a path leads to: the numbers of its device and inode.
Place = tuple[int, int]

_ANOTHER_BASE_PATH = "Give --model_base_path the absolute path of a directory with one numbered directory per version."
_ANOTHER_COPY = "Export or copy the version again."


@dataclass(frozen=True)
class Failure:
    """Why a model, or a version of it, does not answer: the original's text, and a sentence about what to do."""

    text: str
    advice: str

    def __str__(self) -> str:
        return self.text

    @staticmethod
    def joined(failures: Iterable[Failure]) -> Failure:
        """Several failures as one: all texts, and each different advice once."""
        each = list(failures)
        return Failure(", ".join(one.text for one in each), " ".join(dict.fromkeys(one.advice for one in each)))


def unservable(models: Iterable[Model], check: Callable[[str, Path], object]) -> dict[str, Failure]:
    """Why no model can be served, judging by the files: name -> reasons. Empty if any model could be served.

    Args:
        check: raises ServingError for a version of the named model whose directory is not a SavedModel.
    """
    reasons: dict[str, Failure] = {}
    for model in models:
        if isinstance(directory(model), RemotePath):
            return {}  # only a look that may take long can say
        seen = on_disk(model)
        if isinstance(seen, ServingError):
            reasons[model.name] = failure(model.name, None, seen)
            continue
        found_wrong = []
        for number in sorted(wanted(model.policy, seen), reverse=True):
            try:
                check(model.name, directory(model) / seen[number])
            except ServingError as error:
                found_wrong.append(failure(model.name, number, error))
            else:
                return {}
        reasons[model.name] = Failure.joined(found_wrong or [failure(model.name, None, no_versions(model))])
    return reasons


def directory(model: Model) -> Path:
    """The directory of a base path."""
    return path_of(model.base_path)


def failure(name: str, number: int | None, error: ServingError) -> Failure:
    """The Failure of a version that does not load, or (`number` None) of a model whose directory is wrong."""
    servable = f"name: {name}" if number is None else f"name: {name} version: {number}"
    return Failure(f"{{{{{servable}}} due to error: {error.code.name}: {error.message}}}",
                   error.advice or _ANOTHER_COPY)


def no_versions(model: Model) -> ServingError:
    """The error for a directory that has none of the wanted versions."""
    return not_found(f"No versions of servable {model.name} found under base path {model.base_path}. Did you forget "
                     "to name your leaf directory as a number (eg. '/1/')?", _ANOTHER_BASE_PATH)


def on_disk(config: Model) -> dict[int, str] | ServingError:
    """The versions in a model's directory, or what is wrong with it."""
    try:
        return numbered(entry.name for entry in directory(config).iterdir())
    except StorageError as error:
        return _no_base_path(config, error.code, str(error.strerror), error.advice or _ANOTHER_BASE_PATH)
    except OSError as error:
        return not_found(f"Could not find base path {config.base_path} for servable {config.name} with error "
                         f"{error.strerror}", UNREADABLE if isinstance(error, PermissionError) else _ANOTHER_BASE_PATH)


def place(config: Model) -> Place | None:
    """Which directory the base path leads to; None if it leads to none, or to a storage of another scheme."""
    path = directory(config)
    if isinstance(path, RemotePath):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def replaced(config: Model) -> ServingError:
    """The error for an empty directory in place of the one that had versions."""
    return not_found(f"No versions of servable {config.name} found under base path {config.base_path}, where an empty "
                     "directory has taken the place of the one that had them. Is its storage mounted?")


def no_answer(config: Model, seconds: float) -> ServingError:
    """The error for a storage that has not answered for so long."""
    return _no_base_path(config, Code.UNAVAILABLE, f"no answer in {seconds:g} s",
                         "See whether this machine reaches that storage.")


def _no_base_path(config: Model, code: Code, reason: str, advice: str) -> ServingError:
    return ServingError(code, f"Could not find base path {config.base_path} for servable {config.name} with error "
                        f"{code.name}: {reason}", advice)
