"""What the model store knows of one model: its configuration, versions, and what is missing. Guarded by its lock."""
import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.config import Model
from serving.errors import Code, ServingError
from serving.readiness import Missing, ModelReadiness
from serving.remote_path import is_away
from serving.servable import Loaded, VersionStatus
from serving.version_files import Failure, Place, directory, failure, no_versions, replaced
from serving.versions import Snapshot, State, absent_versions, wanted

log = logging.getLogger("serving")


@dataclass(slots=True)
class Version:
    """One version of a model, from its discovery to END; kept afterwards, since GetModelStatus shows it."""

    path: Path
    state: State = State.START
    wanted: bool = True
    error: ServingError | None = None
    servable: Loaded | None = None
    pins: int = 0
    tries: int = 0
    retry: threading.Timer | None = None

    def status(self, number: int) -> VersionStatus:
        """This version as GetModelStatus reports it."""
        if self.error is None or self.state is not State.END:
            return VersionStatus(number, self.state.value, engine=self.servable.engine if self.servable else "")
        return VersionStatus(number, self.state.value, self.error.code, self.error.message)

    def answers(self) -> bool:
        """Whether it can answer requests."""
        return self.state is State.AVAILABLE and self.servable is not None and self.servable.answers

    def obstacle(self) -> str:
        """Why it does not answer."""
        if self.error is not None:
            return f"{self.error.code.name}: {self.error.message} {self.error.advice}".rstrip()
        if self.state is State.AVAILABLE:
            return "loaded, but its first run failed, and no request has succeeded"
        return self.state.value


@dataclass(slots=True)
class KnownModel:
    """One model of the configuration."""

    config: Model
    versions: dict[int, Version] = field(default_factory=dict)
    removed: bool = False
    # Why no version was found at the last look; None when there was one.
    missing: ServingError | None = None
    # Versions that the policy names, but that were not on disk at the last look.
    absent: frozenset[int] = frozenset()
    # Where its versions were last found; None: nowhere yet, or in a storage without directories of its own.
    found_in: tuple[str, Place] | None = None
    # The base path at which a look that may take long is going on.
    looking: str | None = None

    def note_seen(self, seen: Mapping[int, str] | ServingError, place: Place | None = None) -> None:
        """Updates the wanted versions by what was found in the model's directory, or could not be.

        `place`: which directory that is; None if the storage has none, or if it changed during the look.
        """
        if not isinstance(seen, ServingError):
            base_path = self.config.base_path
            if seen and place is not None:
                self.found_in = base_path, place
            elif not seen and self.found_in is not None and self.found_in != (base_path, place) \
                    and self.found_in[0] == base_path:  # decision 145
                # Probably an empty mount point: treated as if there were no directory.
                seen = replaced(self.config)
        if isinstance(seen, ServingError):
            # The directory may be missing only for a moment (a remounted disk): loaded versions stay.
            if self.missing is None or seen.message != self.missing.message:
                log.warning("%s: %s", seen.code.name, f"{seen} {seen.advice}".rstrip() if is_away(seen.code) else seen)
            self.missing = seen
            return
        wants = wanted(self.config.policy, seen)
        missing = None if wants else no_versions(self.config)
        absent = absent_versions(self.config.policy, seen)
        if (str(missing), absent) != (str(self.missing), self.absent) and (missing or absent):
            log.warning("%s", missing or f"model {self.config.name}: no version "
                        f"{', '.join(map(str, sorted(absent)))} in {self.config.base_path}")
        self.missing, self.absent = missing, absent
        for number in wants:
            version = self.versions.get(number)
            if version is None or (version.state is State.END and version.error is None):
                self.versions[number] = Version(directory(self.config) / seen[number])
        self.want(wants)

    def want(self, wants: Collection[int]) -> None:
        """Sets which versions are to be loaded."""
        for number, version in self.versions.items():
            version.wanted = number in wants
            if not version.wanted:
                if version.retry is not None:
                    version.retry.cancel()
                    version.retry = None
                    version.state = State.END
                elif version.state is State.START:
                    version.state = State.END

    def snapshots(self) -> dict[int, Snapshot]:
        """The versions for versions.next_action."""
        return {number: Snapshot(version.state, version.wanted) for number, version in self.versions.items()
                if version.wanted or version.state is not State.END}

    def settled(self) -> bool:
        """Whether every wanted version is loaded, or its load has failed at least once."""
        return all(version.error is not None or version.state in (State.AVAILABLE, State.END)
                   for version in self.versions.values() if version.wanted)

    def may_answer_later(self, polled: bool) -> bool:
        """Whether a wanted version is loading or will be tried again, or (if `polled`) its storage may come back."""
        if any(version.wanted and version.state is not State.END for version in self.versions.values()):
            return True
        return polled and (self.looking is not None or (self.missing is not None and is_away(self.missing.code)))

    def failures(self) -> Failure:
        """Why it does not answer, with the original's text."""
        name = self.config.name
        failed = [failure(name, number, version.error) for number, version in self.versions.items() if version.error]
        if not failed and self.missing is not None:
            failed = [failure(name, None, self.missing)]
        return Failure.joined(failed)

    def readiness(self) -> ModelReadiness:
        """Whether it can answer, and which wanted versions cannot."""
        missing = [Missing(None, f"{self.missing.code.name}: {self.missing.message}")] if self.missing else []
        if self.looking is not None and not self.missing and not self.versions:
            missing.append(Missing(None, f"{self.looking} has not answered yet"))
        for number in sorted(self.absent):
            missing.append(Missing(number, f"{Code.NOT_FOUND.name}: not in {self.config.base_path}"))
        missing += [Missing(number, version.obstacle()) for number, version in sorted(self.versions.items())
                    if version.wanted and not version.answers()]
        # A version that is no longer wanted also answers: it stays until a wanted one can replace it.
        return ModelReadiness(any(version.answers() for version in self.versions.values()), tuple(missing), {
            number: version.servable.engine for number, version in self.versions.items() if version.servable})
