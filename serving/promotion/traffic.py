"""Traffic by model version, from a server's metrics: the embedded server separates versions, the original does not."""
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

PATH = "/monitoring/prometheus/metrics"
_SAMPLE = re.compile(r"^(embedded_serving_request\w*)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TIMEOUT_S = 5.0


@dataclass
class Traffic:
    """Requests since the server started: how many, how many of them failed, and their mean milliseconds."""

    requests: int = 0
    errors: int = 0
    answered: int = 0
    microseconds: float = 0.0

    def add(self, other: "Traffic") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.answered += other.answered
        self.microseconds += other.microseconds

    @property
    def mean_ms(self) -> float | None:
        return self.microseconds / self.answered / 1e3 if self.answered else None


def of_server(rest: str | None, model: str) -> Mapping[int, Traffic]:
    """{version: its traffic}; nothing of a server that reports none (--monitoring_config_file)."""
    if rest is None:
        return {}
    address = rest if "://" in rest else f"http://{rest}"
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}{PATH}", timeout=_TIMEOUT_S) as found:
            return of_text(found.read().decode(), model)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return {}


def of_text(text: str, model: str) -> Mapping[int, Traffic]:
    """The same from Prometheus' text format."""
    found: dict[int, Traffic] = {}
    for name, labels, value in _SAMPLE.findall(text):
        of = dict(_LABEL.findall(labels))
        if of.get("model_name") != model or not of.get("version", "").isdecimal():
            continue
        one = found.setdefault(int(of["version"]), Traffic())
        if name == "embedded_serving_requests":
            one.requests += int(float(value))
            one.errors += int(float(value)) if of["status"] != "OK" else 0
        elif name.endswith("_sum"):
            one.microseconds += float(value)
        elif name.endswith("_count"):
            one.answered += int(float(value))
    return found
