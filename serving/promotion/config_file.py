"""production/models.config: what it names of a model, and how it names something else, all else kept as it is.

People write into this file too. So only the block of the one model is written anew, and of that only its version policy
and its labels: other models, other fields, the order and all comments stay.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving import text_proto
from serving.config import models_of
from serving.errors import ServingError
from serving.promotion.plan import Served
from serving.protos import model_server_config_pb2
from user_error import UserError

EMPTY = "model_config_list {\n}\n"


@dataclass(frozen=True)
class ConfigFile:
    """The text of a models.config."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Raises UserError if a server would refuse it."""
        try:
            found = cls(path, text_proto.read_text(str(path)))
            models_of(found.message)
            return found
        except ServingError as error:
            raise UserError(f"{error.message} {error.advice}") from None

    @cached_property
    def message(self) -> Any:
        """The ModelServerConfig, which is not to be changed. Raises ServingError for another text."""
        return text_proto.parsed(str(self.path), self.text, model_server_config_pb2.ModelServerConfig())

    @property
    def models(self) -> list[str]:
        return [entry.name for entry in self.message.model_config_list.config]

    def entry(self, model: str) -> Any | None:
        """The ModelConfig of a model."""
        return next((one for one in self.message.model_config_list.config if one.name == model), None)

    def served(self, model: str) -> Served:
        """What it names of the model: nothing if it has no such model. A policy other than `specific` names no
        versions: a server chooses them by itself."""
        entry = self.entry(model)
        if entry is None:
            return Served()
        return Served(frozenset(entry.model_version_policy.specific.versions), dict(entry.version_labels))

    def named_by_others(self, model: str, base_path: Path, there: Iterable[int]) -> frozenset[int]:
        """Of the versions at a base path, those that models of other names serve from it: all of them, if the server
        chooses."""
        found: set[int] = set()
        for entry in self._others_at(model, base_path):
            found.update(entry.model_version_policy.specific.versions if _is_specific(entry) else there)
        return frozenset(found)

    def chooses_among(self, model: str, base_path: Path) -> str:
        """The name of another model for which a server chooses among the versions at a base path; "" if there is none.
        """
        return next((entry.name for entry in self._others_at(model, base_path) if not _is_specific(entry)), "")

    def _others_at(self, model: str, base_path: Path) -> list[Any]:
        return [entry for entry in self.message.model_config_list.config if entry.name != model and entry.base_path
                and Path(entry.base_path).resolve() == base_path.resolve()]

    def with_served(self, model: str, base_path: Path, served: Served) -> str:  # decision 240
        """The text that names exactly this of the model. Without any version the model is not named."""
        blocks = [place for place in _blocks(self.text) if place.path == ("model_config_list", "config")]
        if len(blocks) != len(self.models):
            return replace(self, text=self._in_blocks()).with_served(model, base_path, served)
        place = next((place for place, name in zip(blocks, self.models, strict=True) if name == model), None)
        if not served.versions:
            return self.text if place is None else _without(self.text, place)
        entry = model_server_config_pb2.ModelConfig()
        entry.CopyFrom(self.entry(model) or model_server_config_pb2.ModelConfig(
            name=model, base_path=str(base_path), model_platform="tensorflow"))
        entry.ClearField("model_version_policy")
        entry.ClearField("version_labels")
        entry.model_version_policy.specific.versions.extend(sorted(served.versions))
        for label, version in sorted(served.labels.items()):
            entry.version_labels[label] = version
        if place is None:
            return self._with_block(_block_text(entry, []))
        own = self.text[place.begin:place.end]
        return self.text[:place.begin] + _block_text(entry, _comments(own)) + self.text[place.end:]

    def _in_blocks(self) -> str:
        """The same configuration with a block for each model, for a text that has them in brackets: config [{}, {}]."""
        return "\n".join([*_comments(self.text), text_format.MessageToString(self.message)])

    def _with_block(self, block: str) -> str:
        lists = [place for place in _blocks(self.text) if place.path == ("model_config_list",)]
        if not lists:
            return f"{self.text}model_config_list {{\n  {block}\n}}\n"
        at = lists[-1].end - 1
        before = self.text[:at].rstrip(" ")
        return f"{before}{'' if before.endswith(chr(10)) else chr(10)}  {block}\n{self.text[at:]}"


def _is_specific(entry: Any) -> bool:
    return bool(entry.model_version_policy.WhichOneof("policy_choice") == "specific")


@dataclass(frozen=True)
class _Place:
    """A message in the text: from its name to behind its closing bracket."""

    path: tuple[str, ...]
    begin: int
    end: int


_TOKEN = re.compile(r"""(?P<comment>\#[^\n]*)|(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<open>[{<])|"""
                    r"""(?P<close>[}>])|(?P<word>[\w.+-]+)|(?P<other>[^\s])""", re.DOTALL)


def _blocks(text: str) -> Iterator[_Place]:
    """The messages of a text that has been parsed, the inner ones first."""
    begun: list[tuple[str, int]] = []
    word, at = "", 0
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "word":
                word, at = token[0], token.start()
            case "open":
                begun.append((word, at))
            case "close":
                path = tuple(name for name, _ in begun)
                _, begin = begun.pop()
                yield _Place(path, begin, token.end())


def _comments(block: str) -> list[str]:
    return [token[0] for token in _TOKEN.finditer(block) if token.lastgroup == "comment"]


def _block_text(entry: Any, comments: list[str]) -> str:
    """`config { ... }` as it stands in the list, its first line not indented."""
    inner = [*comments, *text_format.MessageToString(entry).rstrip("\n").split("\n")]
    return "\n".join(["config {", *(f"    {line}" for line in inner), "  }"])


def _without(text: str, place: _Place) -> str:
    """Without the block, and without the line that it leaves empty."""
    before, after = text[:place.begin].rstrip(" \t"), text[place.end:]
    return before + (after[1:] if before.endswith("\n") and after.startswith("\n") else after)
