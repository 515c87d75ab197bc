"""The engines that can run a version besides TensorFlow: the file that it needs for each, and their packages."""
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from version_directory import OPENVINO as OPENVINO_FOLDER
from version_directory import TFLITE


@dataclass(frozen=True)
class OtherEngine:
    """`file`: in a version's directory; packages by distribution, with the module to import. The extra has its name."""

    name: str
    file: Path
    packages: Mapping[str, str]
    for_int8: Mapping[str, str] = field(default_factory=dict)  # what makes int8, besides

    def why_missing(self, int8: bool = False) -> str:
        """Which package is missing and how to install it, in one sentence; "" if all are there. Imports nothing."""
        for package, module in {**self.packages, **(self.for_int8 if int8 else {})}.items():
            if importlib.util.find_spec(module) is None:
                return f"the package {package} is not installed; install it with: pip install -e '.[{self.name}]'"
        return ""

    def versions(self) -> dict[str, str | None]:
        """The installed version of each package; None: it is not installed."""
        return {package: _version(package) for package in (*self.packages, *self.for_int8)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


LITERT = OtherEngine("litert", Path(TFLITE), {"ai-edge-litert": "ai_edge_litert"})
# The list of its files, which are beside it.
OPENVINO = OtherEngine("openvino", OPENVINO_FOLDER / "engine.json", {"openvino": "openvino"}, {"nncf": "nncf"})
OTHER_ENGINES = {one.name: one for one in (LITERT, OPENVINO)}
TENSORFLOW = "tensorflow"
ENGINES = (TENSORFLOW, *OTHER_ENGINES)
