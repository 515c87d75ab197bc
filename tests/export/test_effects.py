"""The table of operations that do more than compute, against TensorFlow's whole registry."""
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from export import effects, saved_model
from export.node import Node, make_node
from export.ops import is_pure
from export.reach import effects_of

# What arguments and attributes are called that hold the name of a file or an address.
_TELLING = re.compile(
    r"^(.*_)?(file|files|filename|filenames|file_pattern|patterns?|path|paths|dir|directory|logdir|prefix|prefixes|"
    r"checkpoint_prefixes|vocab_file|db_uri|address|server_address|urls?|debug_urls|writer|"
    r"driver_name|data_source_name|output_stream|descriptor_source|memory_region_name)$")
# They have such a name and touch nothing; why.
HARMLESS = {
    **dict.fromkeys(("RegexFullMatch", "RegexReplace", "StaticRegexFullMatch", "StaticRegexReplace"), "of a text"),
    **dict.fromkeys(("CloseSummaryWriter", "FlushSummaryWriter"), "of a writer that another operation opened"),
    "CTCBeamSearchDecoder": "how many paths", "TensorSliceDataset": "says that its texts are names of files",
    **dict.fromkeys(("SetStatsAggregatorDataset", "ExperimentalSetStatsAggregatorDataset"), "of a counter's name"),
}


def registry() -> dict[str, Any]:
    from tensorflow.core.framework.op_def_pb2 import OpList
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.framework import c_api_util
    assert c_api_util
    return {one.name: one for one in OpList.FromString(
        pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op}


def test_each_operation_of_the_table_is_registered() -> None:
    assert sorted(effects.NAMES - registry().keys()) == []


def test_every_operation_whose_arguments_name_files_is_in_the_table() -> None:
    telling = {name for name, definition in registry().items()
               for one in (*definition.input_arg, *definition.attr) if _TELLING.match(one.name)}
    assert sorted(telling - effects.NAMES - HARMLESS.keys()) == []


def test_every_operation_that_calls_python_or_another_process_is_in_the_table() -> None:
    telling = re.compile(r"PyFunc|Rpc(?!FutureResource)|DataService|^_?(Host)?(Send|Recv)$|^Collective(?!Permute)|"
                         r"^Debug|Dump|(?<!Sharded)File|Sql|LMDB|TFRecord")
    names = [name for name in registry() if telling.search(name)]
    missing = sorted(name for name in names if name not in effects.NAMES and name not in HARMLESS)
    assert missing == ["DebugGradientIdentity", "DebugGradientRefIdentity"]  # which pass their input on


@pytest.mark.parametrize(("node", "reason"), [
    (make_node("a", "PrintV2", ("x",), output_stream="file:///tmp/x"), effects.FILES),
    (make_node("a", "PrintV2", ("x",), output_stream="stderr"), None),
    (make_node("a", "DecodeProtoV2", ("x",), descriptor_source="/etc/descriptors"), effects.FILES),
    (make_node("a", "DecodeProtoV2", ("x",), descriptor_source="bytes://abc"), None),
    (make_node("a", "FixedUnigramCandidateSampler", ("x",), vocab_file="/etc/words"), effects.FILES),
    (make_node("a", "Abort"), effects.ENDS), (make_node("a", "MatMul", ("x", "y")), None),
], ids=lambda one: one.op if isinstance(one, Node) else str(one))
def test_the_effect_of_a_node_may_depend_on_its_attributes(node: Node, reason: str | None) -> None:
    assert effects.of_node(node, lambda _: None) == reason


@pytest.mark.parametrize("op", ["ReadFile", "MatchingFiles"])
def test_a_file_is_never_read_while_constants_are_folded(op: str) -> None:
    """The registry calls both operations stateless."""
    assert not is_pure(make_node("read", op, ("name",)))


def test_a_cache_in_memory_touches_no_file(tmp_path: Path) -> None:
    found = {}
    for name in ("", "cache"):
        def serve(x: Any, name: str = name) -> Any:
            rows = tf.data.Dataset.from_tensors(x).cache(name)
            return {"y": rows.reduce(tf.zeros_like(x), lambda a, b: a + b)}
        module = tf.Module()
        module.serve = tf.function(serve, input_signature=[tf.TensorSpec([3], tf.float32, "x")])
        path = tmp_path / f"cache{name}"
        tf.saved_model.save(module, str(path), signatures=module.serve)
        found[name] = {one.op for one in effects_of(saved_model.read(path), "serving_default")}
    assert found == {"": set(), "cache": {"CacheDatasetV2"}}


def test_functions_in_the_attributes_of_functions_are_reached() -> None:
    node = make_node("call", "PartitionedCall", ("x",))
    attrs: Any = tf.compat.v1.AttrValue()
    attrs.func.name = "outer"
    attrs.func.attr["f"].func.name = "inner"
    assert list(effects.functions_of({**node.attrs, "f": attrs})) == ["outer", "inner"]



def test_nodes_before_a_fed_tensor_are_not_run(tmp_path: Path) -> None:
    from saved_models import save_v1, signature
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        text = tf.identity(tf.io.read_file(v1.placeholder(tf.string, [], "name")), "text")
        ends = {"y": tf.strings.length(text)}
        save_v1(tmp_path / "1", session, {"by_text": signature({"text": text}, ends), "by_name": signature(
            {"name": session.graph.get_tensor_by_name("name:0")}, ends)})
    model = saved_model.read(tmp_path / "1")
    assert effects_of(model, "by_text") == []
    assert [one.op for one in effects_of(model, "by_name")] == ["ReadFile"]
