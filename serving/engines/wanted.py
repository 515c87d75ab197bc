"""Which engine the flags and --engines_file want for a model: names only, no engine is imported.

    [models]
    mnist = "openvino"
"""
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from other_engines import ENGINES, LITERT, TENSORFLOW
from serving.config import Flags
from serving.errors import UNREADABLE, Code, ServingError, invalid, not_found
from serving.remote_path import path_of

_SECTION = "models"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An engine for every model: `models` by name, `default` for all others."""

    default: str
    models: Mapping[str, str] = field(default_factory=dict)

    def of(self, model: str) -> str:
        """The engine wanted for a model. A version without that engine's file is run by TensorFlow all the same."""
        return self.models.get(model, self.default)

    def all(self) -> Set[str]:
        """Every engine that is wanted for some model."""
        return {self.default, *self.models.values()}


def engines_wanted(flags: Flags) -> Wanted:
    """Reads --engines_file. Raises ServingError that names the flag, or the file and its line or key."""
    if flags.engine not in ("", *ENGINES):
        raise invalid(f"--engine={flags.engine}: it takes {', '.join(ENGINES)}")
    return Wanted(flags.engine or (LITERT.name if flags.prefer_tflite_model else TENSORFLOW),
                  _read(flags.engines_file) if flags.engines_file else {})


def _read(file: str) -> dict[str, str]:
    try:
        content = tomllib.loads(path_of(file).read_bytes().decode())
    except PermissionError as error:
        raise ServingError(Code.PERMISSION_DENIED, f"--engines_file: {file}; {error.strerror}", UNREADABLE) from None
    except OSError as error:
        raise not_found(f"--engines_file: {file}; {error.strerror}") from None
    except UnicodeDecodeError:
        raise invalid(f"--engines_file: {file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise invalid(f"--engines_file: {file} is not TOML: {error}") from None
    for key in content:
        if key != _SECTION:
            raise invalid(f"--engines_file: {file}: unknown key '{key}'; it has one section, [{_SECTION}], with lines "
                          'such as: mnist = "openvino"')
    models = content.get(_SECTION, {})
    if not isinstance(models, dict):
        raise invalid(f"--engines_file: {file}: '{_SECTION}' must be a section, [{_SECTION}]")
    for name, engine in models.items():
        if engine not in ENGINES:
            raise invalid(f"--engines_file: {file}: {name} = {engine!r}: an engine is one of {', '.join(ENGINES)}")
    return models
