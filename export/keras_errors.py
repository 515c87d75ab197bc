"""Why a Keras file does not load: a missing class, a Lambda layer, or the innermost exception's message."""
from __future__ import annotations

import re
from collections.abc import Iterator

from export import saved_model

_EXPORT = ("load it in the code that trained it, where the class is defined, and write a SavedModel there: "
           "model.export('saved_model')")
# The messages of Keras 3, Keras 2 and its .h5 reader.
_MISSING = (re.compile(r"Could not locate (?:class|function|object) '([^']+)'"),
            re.compile(r"Unknown (?:layer|object|class|optimizer|initializer|activation function|function|loss|metric)"
                       r"[^'\n]{0,40}?'([^']+)'"),
            re.compile(r"Unknown [\w ]+: ['\"]?([\w>.]+)['\"]?"),
            re.compile(r"No module named '([^']+)'"))
_UNSAFE = re.compile(r"`?Lambda`? layer|unsafe_deserialization|safe_mode")
_INNER = re.compile(r"Exception encountered: (.+)", re.DOTALL)


def reason(error: BaseException) -> str:
    """One line that names the cause and what to do."""
    texts = [str(one) for one in _chain(error)]
    if any(_UNSAFE.search(text) for text in texts):
        return ("it holds a Lambda layer, whose Python code is not run from a file; load it with safe_mode=False in "
                "code that you trust, and write a SavedModel there: model.export('saved_model')")
    for pattern in _MISSING:
        for text in texts:
            found = pattern.search(text)
            if found:
                return f"it needs the class '{found.group(1)}', which is not part of Keras; {_EXPORT}"
    inner = [found.group(1).strip() for text in texts if (found := _INNER.search(text))]
    return inner[-1].splitlines()[0] if inner else saved_model.reason(list(_chain(error))[-1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that caused it, outermost first."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or following.__context__
    yield from seen
