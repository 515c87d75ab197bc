"""Our transforms against the Graph Transform Tool on the same graph."""
from typing import Any

from graph_session import session_run, transformed
from graph_strategies import Drawn
from transform_oracle import ORACLE

from serving.client.answers import Budget, Comparison, compare


def against_tool(drawn: Drawn, transforms: str, budget: Budget | None = None) -> tuple[Any, Any, Comparison]:
    """Our GraphDef, the tool's, and how their outputs compare. Asserts that ours is equal to the original."""
    ours, _ = transformed(drawn.graph_def, ["x"], drawn.outputs, transforms)
    tool = ORACLE.transform(drawn.graph_def, ["x"], drawn.outputs, transforms)
    feeds = drawn.feeds()
    original, our_outputs, tool_outputs = (session_run(graph_def, drawn.outputs, feeds)
                              for graph_def in (drawn.graph_def, ours, tool))
    kept = compare(original, our_outputs, budget)
    assert kept.equal, kept.summary()
    return ours, tool, compare(tool_outputs, our_outputs, budget)
