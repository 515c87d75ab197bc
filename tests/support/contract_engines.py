"""The recorded cases on another engine: its files for the recorded models, and the server that a case is sent to.

A model.tflite has one set of inputs, so a model with several sets becomes several files: the first one of each model
is served by one server, the second one by another. A case goes to the one that has its signature. OpenVINO has a graph
for each signature, and TensorFlow runs the others beside it: one server has all.
"""
import json
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import altered_files
from contract_rest import body_of
from contract_servers import ContractServer, running
from converted_here import converters_here
from google.protobuf import text_format

from export import saved_model
from export.engines import conversion, litert, openvino
from export.engines.convertible import convertible
from export.engines.limits import Limits
from export.freeze import freeze
from serving.engines import litert as serving_litert
from serving.errors import ServingError
from serving.protos import model_server_config_pb2
from serving.servable import DEFAULT_SIGNATURE

# The signature of requests for all signatures.
METADATA = "(metadata)"


@dataclass
class EngineModels:
    """Directories of models, and where each signature is.

    `places`: (model, signature) -> the number of its directory; `left`: why the engine cannot run it; `beside`: whether
    TensorFlow then runs it.
    """

    engine: str
    roots: list[Path] = field(default_factory=list)
    places: dict[tuple[str, str], int] = field(default_factory=dict)
    left: dict[tuple[str, str], str] = field(default_factory=dict)
    beside: bool = False

    def place(self, model: str, signature: str) -> int | str:
        """The number of the directory; or why there is none. What no model has can be asked anywhere."""
        if self.beside:
            return 0
        if signature == METADATA and sum(one == model for one, _ in (*self.places, *self.left)) > 1:
            return "a file for LiteRT lists its own signatures alone"
        if (model, signature) in self.left:
            return self.left[model, signature]
        return self.places.get((model, signature), 0)


def converted(models: Path, to: Path, engine: str, only: Collection[str] | None = None) -> EngineModels:
    """The recorded models for the engine, in numbered directories in `to`; `only`: of these names."""
    made = EngineModels(engine, beside=engine == "openvino")
    if made.beside:
        made.roots = [to / "0"]
    with converters_here():
        for path in sorted(models.glob("*/*")):
            if path.parent.name != "other_tag" and (only is None or path.parent.name in only):
                (_with_openvino if made.beside else _as_files)(path, to, made)
    return made


_REASON = re.compile(r"signature '([^']*)': (.*?)(?=; signature '|$)")


def _with_openvino(path: Path, to: Path, made: EngineModels) -> None:
    frozen, name = freeze(saved_model.read(path)), path.parent.name
    version = to / "0" / name / path.name
    shutil.copytree(path, version)
    try:
        left = openvino.write(version, frozen.graph, frozen.signatures, "float32", [], Limits()).left
    except conversion.ConversionError as error:
        left = dict(_REASON.findall(str(error)))
    made.left |= {(name, key): reason for key, reason in left.items()}


def _as_files(path: Path, to: Path, made: EngineModels) -> None:
    frozen, name = freeze(saved_model.read(path)), path.parent.name
    found = convertible(frozen.signatures, frozen.graph)
    made.left |= {(name, key): reason for key, reason in found.left.items()}
    groups: dict[frozenset[str], list[str]] = {}
    for key in sorted(found.ends, key=lambda key: (key != DEFAULT_SIGNATURE, key)):
        groups.setdefault(frozenset(found.ends[key].inputs), []).append(key)
    pending, number = list(groups.values()), 0
    while pending:
        keys = pending.pop(0)
        version = to / str(number) / name / path.name
        version.mkdir(parents=True)
        try:
            litert.write(version, frozen.graph, {key: frozen.signatures[key] for key in keys}, "float32", [], Limits())
            serving_litert.load(name, 1, version, 1, 1).close()
        except (conversion.ConversionError, ServingError) as error:
            shutil.rmtree(version)
            if len(keys) == 1:
                made.left[name, keys[0]] = str(error)
            else:  # some of them can be converted alone
                pending[:0] = [[key] for key in keys]
            continue
        altered_files.state_checksum(version, made.engine, "model.tflite")
        made.places |= {(name, key): number for key in keys}
        number += 1
        if number > len(made.roots):
            made.roots.append(to / str(number - 1))


@contextmanager
def serving(config: dict[str, Any], models: Path, work: Path, engine: str) -> Iterator[ContractServer]:
    """The server of a configuration with those of its models that are in the directory."""
    there = {path.name for path in models.iterdir() if any(path.iterdir())}
    files = dict(config.get("files") or {})
    if "models.config" in files:
        listed = model_server_config_pb2.ModelServerConfig()
        text_format.Parse(files["models.config"], listed)
        kept = [one for one in listed.model_config_list.config if one.base_path.rpartition("/")[2] in there]
        del listed.model_config_list.config[:]
        listed.model_config_list.config.extend(kept)
        files["models.config"] = text_format.MessageToString(listed)
    flags = [*(config.get("flags") or []), altered_files.FLAGS[engine]]
    with running({**config, "flags": flags, "files": files,
                  "ready": [name for name in config.get("ready") or [] if name in there]}, models, work) as server:
        yield server


def asked(case: dict[str, Any]) -> tuple[str, str]:
    """The model and the signature that a case asks for; ("", "") for those that ask for none."""
    return _asked_over_rest(case) if "path" in case else _asked_over_grpc(case)


def _asked_over_rest(case: dict[str, Any]) -> tuple[str, str]:
    found = re.match(r"/v1/models/([^/:?]+)", unquote(case["path"]))
    if found is None:
        return "", ""
    if case["method"] != "POST":
        return found[1], METADATA if "metadata" in case["path"] else ""
    try:
        body = json.loads(body_of(case) or b"")
        signature = body.get("signature_name") or DEFAULT_SIGNATURE
    except (ValueError, AttributeError, RecursionError):
        signature = DEFAULT_SIGNATURE
    return found[1], str(signature)


def _asked_over_grpc(case: dict[str, Any]) -> tuple[str, str]:
    text = case.get("request_textproto") or ""
    model = re.search(r'^\s*name: "([^"]*)"', text, re.M)
    signature = re.search(r'signature_name: "([^"]*)"', text)
    if "GetModelMetadata" in case["rpc"]:
        return model[1] if model else "", METADATA
    return model[1] if model else "", signature[1] if signature and signature[1] else DEFAULT_SIGNATURE


_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


def within(answer: str, recorded: str) -> bool:
    """Whether two texts differ in numbers alone, and in these by 1e-4 of the largest at most."""
    if _NUMBER.sub("#", answer) != _NUMBER.sub("#", recorded):
        return False
    found, wanted = ([float(one) for one in _NUMBER.findall(text)] for text in (answer, recorded))
    most = max(map(abs, wanted), default=0.0)
    return all(abs(one - two) <= 1e-4 * most for one, two in zip(found, wanted, strict=True))
