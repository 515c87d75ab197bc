"""The study's part in the cloud, measured at a local server with Vertex AI's API."""
from dataclasses import replace
from pathlib import Path

import pytest
from running_server import serving
from service_account import save_key
from tiny_saved_model import write_tiny_saved_model
from vertex_stand_in import VertexStandIn

from benchmark.studies import mnist
from benchmark.studies.result import conduct
from benchmark.studies.stages import Stages
from benchmark.studies.study import Way


@pytest.mark.slow
def test_an_endpoint_in_the_cloud_is_measured_beside_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                  ) -> None:
    models = tmp_path / "models"
    write_tiny_saved_model(models / "mnist/original/1")
    with serving(models / "mnist", "original") as (_, flags):
        vertex = VertexStandIn(f"127.0.0.1:{flags.rest_api_port}", "original")
        key = save_key(tmp_path / "key.json", f"{vertex.url}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        try:
            study = mnist.on_cloud({"original": f"vertex:{vertex.endpoint}"})
            cloud = replace(study, builds=(), variants=(), parts=study.parts[-1:], goals=(), ceilings=(),
                            conversions=(), shown={}, way=Way("cloud", "rest", 100, "1,000 batches of 100 images"))
            found = conduct(cloud, models, Stages(tmp_path / "work"), True, 0, "python -m benchmark study mnist")
        finally:
            vertex.stop()
    assert [(row["label"], row["requests"]) for row in found["parts"][0]["rows"]] == [
        ("original, here", 20), ("original, in the cloud", 20)]
    assert len([path for _, path in vertex.seen if path.endswith(":predict")]) >= 20
    assert found["does_not_run"] == []
