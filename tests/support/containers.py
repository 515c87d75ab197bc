"""The local image of tests/docker (build_image.sh), variants of it, and the command `docker`."""
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import requests

IMAGE = "tfserving-embedded:test"
ENTRY_POINT = 'ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]'


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def there(name: str) -> str:
    """The ids of the containers, running or not, whose names contain `name`."""
    return docker("ps", "--all", "--quiet", "--filter", f"name={name}")


def engine_of(rest_port: int) -> str:
    """What the server says of the only version of its only model."""
    [model] = requests.get(f"http://127.0.0.1:{rest_port}/models", timeout=60).json()["models"]
    [version] = model["versions"]
    assert version["state"] == "AVAILABLE"
    return str(version["engine"])


@contextmanager
def changed(tag: str, command: str) -> Iterator[str]:
    """The image as it is after a shell's `command` in it; yields its name. It is removed at the end."""
    container = docker("create", "--entrypoint=bash", IMAGE, "-ec", command).strip()
    try:
        docker("start", "--attach", container)
        docker("commit", f"--change={ENTRY_POINT}", "--change=CMD []", container, tag)
    finally:
        docker("rm", container)
    try:
        yield tag
    finally:
        docker("rmi", tag)
