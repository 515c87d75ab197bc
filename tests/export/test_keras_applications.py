"""The default pipeline on common architectures: all affine ops that can be folded are folded."""
import pytest
from application_models import CONTRACTIONS, LEFT_OVER, SMALLEST, foldable, frozen
from graph_session import ops, runtime_graph, seeded, session_run, tf, transformed
from proof import Proof

from serving.client.answers import compare, prove


def measured(name, size, batches):
    """Counts before and after, and the difference of the logits, for one application."""
    before, x, logits = frozen(name, size)
    after, report = transformed(before, [x], [logits], "default")
    assert not foldable(after)
    assert len(foldable(before)) > 40
    counts, old = ops(after), ops(before)
    contractions = sum(counts.get(op, 0) for op in CONTRACTIONS)
    assert contractions == sum(old.get(op, 0) for op in CONTRACTIONS)
    assert counts["BiasAdd"] <= contractions
    sources = {item.name: item.op for item in after.node}
    added = sum(item.op in ("Add", "AddV2") and any(sources.get(ref) == "Const" for ref in item.input)
                for item in after.node)
    assert added == LEFT_OVER[name]
    row = {"image": size, "contractions": contractions,
           "nodes_before": len(before.node), "nodes_after": len(after.node),
           "additions_left": added, "affine_before": len(foldable(before)), "affine_after": 0,
           "seconds": round(sum(step.seconds for step in report.steps), 2), "batches": {}}
    pairs = []
    for batch in batches:
        feeds = {x: seeded([batch, size, size, 3], batch) * 60 + 128}
        pairs.append((session_run(before, [logits], feeds), session_run(after, [logits], feeds)))
        row["batches"][str(batch)] = compare(*pairs[-1]).to_json()
    proven = prove(pairs)
    assert proven.equal, proven.summary()
    tf.keras.backend.clear_session()
    return row


@pytest.mark.parametrize("name", ["MobileNetV2"])
def test_nothing_foldable_is_left_and_logits_agree(name):
    measured(name, 64, [3])


def test_the_additions_left_in_mobilenet_are_biases_and_residual_connections():
    before, x, logits = frozen("MobileNetV2", 64)
    after, _ = transformed(before, [x], [logits], "default")
    nodes = {item.name: item for item in after.node}
    biased = {nodes[item.input[0]].name: nodes[item.input[0]].op for item in after.node if item.op == "BiasAdd"}
    assert len(biased) == ops(after)["BiasAdd"] == sum(ops(after)[op] for op in CONTRACTIONS) == 53
    assert set(biased.values()) == set(CONTRACTIONS)
    residual = [item for item in after.node if item.op in ("Add", "AddV2", "AddN")]
    assert len(residual) == 10
    assert not any(nodes[ref].op == "Const" for item in residual for ref in item.input)
    running = runtime_graph(after, logits, {x: seeded([1, 64, 64, 3])})
    if any(item.op.startswith("_Mkl") for item in running.node):
        assert not ops(running).keys() & {"Add", "AddV2", "AddN", "BiasAdd"}
    else:  # without oneDNN the runtime fuses neither depthwise convolutions nor residual additions
        assert ops(running).get("BiasAdd", 0) <= 17
    tf.keras.backend.clear_session()


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LEFT_OVER)
def test_keras_applications_proof(name):
    proof = Proof("keras_applications", seed=5, about=[
        "export/folding", "export/transforms/fold_affine_through.py", "export/transforms/fold_batch_norms.py",
        "export/transforms/fold_constants.py", "export/transforms/fold_old_batch_norms.py",
        "export/zoo/applications.py", "tests/support/application_models.py"])
    row = proof.row(name, lambda: measured(name, max(224, SMALLEST.get(name, 0)), [1, 3, 8]))
    assert row["affine_after"] == 0
