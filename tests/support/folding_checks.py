"""The checks of the folding tests: equal outputs and which norms are left, or a refusal and its reason."""
from graph_session import build, compared, ops, reasons, seeded, transformed

ONE_LAYER = "fold_constants fold_batch_norms fold_old_batch_norms fold_constants"
GONE = ("Mul", "Sub", "Div", "RealDiv", "Rsqrt", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
ADDITIONS = ("Add", "AddV2", "BiasAdd")


def folded(make, outputs, feeds, transforms=ONE_LAYER):
    """The op counts and skip reasons after the transforms; the outputs are checked to be equal."""
    before = build(make)
    after, report = transformed(before, list(feeds), outputs, transforms)
    comparison = compared(before, after, outputs, feeds)
    assert comparison.equal, str(comparison)
    return ops(after), reasons(report)


def feed(shape):
    return {"x": seeded([3 if size is None else size for size in shape], 99)}


def refused(make, outputs, reason, inputs=("x",), transforms=ONE_LAYER, feeds=None):
    before = build(make)
    after, report = transformed(before, inputs, outputs, transforms)
    assert any(reason in text for text in reasons(report)), reasons(report)
    # These nodes are exactly as before: only constants may have been computed.
    kinds = ("Mul", "MatMul", "Conv2D", "FusedBatchNormV3", "AddV2")
    assert [item for item in before.node if item.op in kinds] == [item for item in after.node if item.op in kinds]
    if feeds is not None:
        assert compared(before, after, outputs, feeds).equal
