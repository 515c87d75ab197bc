"""Successive halving, the settings that are tried, and a small real run that is started a second time."""
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_saved_model import write_tiny_saved_model

from benchmark import report, tune
from benchmark.issuing import trials
from benchmark.targets.configuration import Batching, Configuration, candidates
from benchmark.verdicts.halving import Score, rungs, successive_halving

pytestmark = pytest.mark.slow


def test_each_rung_keeps_half_of_the_candidates_and_gives_them_twice_the_time() -> None:
    assert rungs(16, 1.0) == [(16, 1.0), (8, 2.0), (4, 4.0), (2, 8.0)]
    assert rungs(2, 3.0) == [(2, 3.0)]
    assert rungs(5, 1.0) == [(5, 1.0), (2, 2.0)]


def test_halving_finds_the_best_of_noisy_candidates() -> None:
    random = np.random.default_rng(1)
    def measure(candidate: int, seconds: float) -> Score:
        return Score(100 + 10 * candidate + random.normal(0, 12 / seconds**0.5), 1.0)
    found = [successive_halving(list(range(16)), measure, 1.0)[0][0] for _ in range(50)]
    assert np.mean([candidate >= 14 for candidate in found]) > 0.9


def test_settings_that_meet_the_slo_rank_before_faster_ones() -> None:
    ranked = sorted([Score(900, 80, 50), Score(100, 40, 50), Score(200, 50, 50), Score(950, 60, 50)],
                    key=lambda score: score.rank, reverse=True)
    assert [score.rate_per_s for score in ranked] == [200, 100, 950, 900]


@pytest.mark.parametrize("quota", [0.5, 2.0, 3.5, 16.0])
def test_no_pool_has_more_threads_than_the_quota(quota: float) -> None:
    made = candidates(quota, 200, seed=3)
    most = max(1, int(np.ceil(quota)))
    assert made[0] == Configuration()
    assert len(set(made)) == 200
    for settings in made:
        batch_threads = settings.batching.num_batch_threads if settings.batching else 1
        assert max(settings.intra_op, settings.inter_op, settings.omp_threads or 1, batch_threads) <= most


def test_candidates_are_the_same_for_the_same_seed() -> None:
    assert candidates(4, 12, 5) == candidates(4, 12, 5)
    assert candidates(4, 12, 5) != candidates(4, 12, 6)


def test_defaults_set_no_flags_and_other_settings_set_all_of_theirs() -> None:
    assert Configuration().flags("b.txt") == ()
    assert Configuration().environment() == ()
    assert Configuration().name == "defaults"
    full = Configuration(2, 1, 2, False, Batching(8, 500, 2), 4, 6)
    assert full.flags("b.txt") == (
        "--tensorflow_intra_op_parallelism=2", "--tensorflow_inter_op_parallelism=1", "--rest_api_num_threads=4",
        "--grpc_max_threads=6", "--enable_batching", "--batching_parameters_file=b.txt")
    assert dict(full.environment()) == {"OMP_NUM_THREADS": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
    assert len({settings.name for settings in candidates(4, 300, 1)}) == 300


def test_a_second_tuning_run_reuses_the_measured_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "FINAL_ROUNDS", 3)
    monkeypatch.setattr(trials, "FINAL_S", 0.1)
    write_tiny_saved_model(tmp_path / "models/tiny/original/1")
    arguments = ["original", "--model", "tiny", "--models", str(tmp_path / "models"), "--candidates", "2", "--seconds",
                 "0.2", "--clients", "2", "--slo", "p50=1000ms", "--out", str(tmp_path / "tuned"), "--json",
                 str(tmp_path / "r.json"), "--html", str(tmp_path / "page/t.html")]
    def run() -> dict[str, Any]:
        tune.command.main(arguments, standalone_mode=False)
        result: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
        return result
    result = run()
    assert len([key for key in result["measured"] if key.endswith("for 0.2 s")]) == 2
    flags = (tmp_path / "tuned/server.flags").read_text().split()
    assert (result["kept"] == "defaults") == (flags == [])
    compose = json.loads((tmp_path / "tuned/docker-compose.tuned.yml").read_text())
    assert len(compose["services"]["original"]["command"]) == len(flags)
    assert [path.name for path in (tmp_path / "tuned").iterdir() if path.name.startswith(".")] == []
    assert result["inputs"] == "random inputs from the model's metadata, seed 0"
    shown = CliRunner().invoke(report.command, [str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")],
                               catch_exceptions=False).stdout
    assert f"Best of 2 within {result['cpus']:g} CPUs: {result['best']}" in shown
    assert (tmp_path / "page/t.html").read_text() == (tmp_path / "r.html").read_text()
    monkeypatch.setattr(trials, "warm", None)  # every measurement is stored: no server is started again
    assert run()["measured"] == result["measured"]
