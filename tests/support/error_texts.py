"""The error texts in the server's code, and the recorded error texts of TensorFlow Serving.

A text is a template, with {} where the code inserts a value.
"""
import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract_servers import cases

# The functions that make errors -> the position of the argument that is the text.
_MAKERS = {"invalid": 0, "not_found": 0, "ServingError": 1, "format_error": 1, "error": 0, "JsonError": 0,
           "_refused": 0}


def templates(root: Path) -> dict[str, str]:
    """Text -> file, for every error text in the server's code."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        if "client" in path.relative_to(root).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            logs = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and (
                node.func.value.id in ("log", "logging", "answer"))
            if name in _MAKERS and not logs and len(node.args) > _MAKERS[name]:
                text = _template(node.args[_MAKERS[name]])
                if re.search(r"\w{2}", text.replace("{}", "")):
                    found.setdefault(text, path.relative_to(root.parent).as_posix())
    return found


def _template(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _template(left) + _template(right)
    return "{}"


def is_in(template: str, text: str) -> bool:
    """Whether the text contains the template, with any values inserted."""
    at = 0
    for part in template.split("{}"):
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def recorded() -> list[str]:
    """Every text that TensorFlow Serving answered or printed in the recording."""
    texts: list[str] = []
    for name in ("rest", "grpc", "lifecycle", "startup"):
        for case in cases(f"{name}.jsonl"):
            texts += _texts(case.get("expect", {}))
            for step in case.get("steps", []):
                texts += _texts(step)
    return texts


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "body_b64" and isinstance(item, str):
                body = base64.b64decode(item)
                yield from _error(body)
            elif key in ("request_textproto", "response_textproto"):
                continue
            else:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _error(body: bytes) -> Iterator[str]:
    try:
        answer = json.loads(body)
    except ValueError:
        yield body.decode("utf-8", "replace")
        return
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        yield answer["error"]
    yield from (status["status"]["error_message"] for status in answer.get("model_version_status", [])
                ) if isinstance(answer, dict) else ()
