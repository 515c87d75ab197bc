"""What a model version consists of, as `python -m export describe` counts it."""
import json
import tempfile
from functools import cache
from pathlib import Path

from benchmark.targets.export_command import ExportError, export
from benchmark.verdicts.records import OperationsRecord


@cache  # a version never changes, and the parts of `overhead` have the same ones
def operations(version: Path) -> OperationsRecord:
    """{"nodes": how many, "ops": {type: count}}; empty if the version cannot be described.

    Counted are the nodes that serve requests: functions inlined, the body of each loop and branch once.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "described.json")
        try:
            export("describe", str(version), "--json", str(path))
        except ExportError:
            return {}
        described = json.loads(path.read_text(encoding="utf-8"))
    return {"nodes": described["nodes"], "ops": described["ops"]}
