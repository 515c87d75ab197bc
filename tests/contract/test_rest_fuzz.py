"""Malformed request bodies: no status 500, no hang, no memory leak, and every answer is JSON."""
from collections.abc import Callable

import pytest
import rest_fuzz
from contract_servers import ContractServer, cases
from proof import Proof

SEEDS = rest_fuzz.seeds(cases("rest.jsonl"))
Servers = Callable[[str], ContractServer]


def test_mutated_bodies(contract_server: Servers) -> None:
    outcome = rest_fuzz.run(contract_server("main").rest_port, SEEDS, seed=1, count=1500)
    assert not outcome.faults, "\n".join(outcome.faults[:5])
    assert {200, 400} <= outcome.statuses.keys()


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_rest_fuzz(contract_server: Servers) -> None:
    """100,000 bodies; resident memory is recorded at every 1,000."""
    proof = Proof("rest_fuzz", seed=10, about=[
        "serving/json", "serving/rest.py", "serving/http1.py", "serving/http_message.py", "tests/support/rest_fuzz.py"])
    port = contract_server("main").rest_port

    def measure(seed: int) -> dict[str, object]:
        outcome = rest_fuzz.run(port, SEEDS, seed, 10_000)
        assert not outcome.faults, "\n".join(outcome.faults[:5])
        return {"bodies": 10_000, "statuses": dict(sorted(outcome.statuses.items())),
                "slowest_s": round(outcome.slowest_s, 3), "resident_mb": outcome.resident_mb}

    rows = [proof.row(f"seed-{seed}", lambda seed=seed: measure(seed)) for seed in range(10, 20)]
    grown = max(rows[-1]["resident_mb"]) - rows[0]["resident_mb"][-1]
    assert grown < 64, f"{grown} MB more after 100,000 bodies than after 10,000"
