"""Whether a server can take traffic, and which wanted versions do not answer. Values only."""
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Missing:
    """A wanted version that does not answer; `version` None: no version of the model was found.

    `reason`: a state ("LOADING"), or why it cannot be loaded, or why nothing was found.
    """

    version: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.version is None else f"version {self.version}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ModelReadiness:
    """One model: whether a version of it answers requests, which wanted versions do not, what runs the loaded ones."""

    answers: bool
    missing: tuple[Missing, ...] = ()
    engines: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """All models of a server, by name."""

    models: Mapping[str, ModelReadiness]

    @property
    def ready(self) -> bool:
        """Whether every model has a version that answers. Other wanted versions do not count: a server that answers
        with an older version is more useful to clients than a server taken out of service."""
        return all(model.answers for model in self.models.values())

    def text(self) -> str:
        """For people: `ready` or `not ready`, then a line for each wanted version that does not answer."""
        lines = ["ready" if self.ready else "not ready"]
        for name, model in sorted(self.models.items()):
            lines += [f"model {name}: {' '.join(str(each).split())}" for each in model.missing]
        return "\n".join(lines) + "\n"
