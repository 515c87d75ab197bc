"""The pipeline's syntax, its reports, and `python -m export transform`."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
from affine_models import CHANNELS, constant, v1
from click.testing import CliRunner
from graph_session import build, compared, ops, seeded, session_run, transformed
from transform_oracle import ORACLE, ToolError

from export.graph import Graph
from export.graph_file import as_graph_def, whole
from export.pipeline import ARTICLE, DEFAULT, StepError, command, parse, run, transforms_command
from export.runtime import tf
from export.transform import TransformError, every_transform, named
from user_error import UserError

ROOT = Path(__file__).resolve().parents[2]
THE_TOOLS = [
    "add_default_attributes", "backport_concatv2", "backport_tensor_array_v3", "flatten_atrous_conv",
    "fold_batch_norms", "fold_old_batch_norms", "fold_constants", "freeze_requantization_ranges",
    "fuse_pad_and_conv", "fuse_resize_and_conv", "fuse_resize_pad_and_conv", "inline_partitionedcall",
    "insert_logging", "merge_duplicate_nodes", "obfuscate_names", "quantize_nodes", "quantize_weights",
    "remove_attribute", "remove_control_dependencies", "remove_device", "remove_nodes", "rename_attribute",
    "rename_node", "rename_op", "round_weights", "set_device", "sort_by_execution_order", "sparsify_gather",
    "strip_unused_nodes"]


def steps(text):
    return [(step.transform.name, {key: value for key, value in step.args.values.items() if value not in (None, [])})
            for step in parse(text)]


@pytest.mark.parametrize("text", [
    "remove_nodes(op=Identity,op=CheckNumerics)",
    "remove_nodes(op=Identity, op=CheckNumerics)",
    "  remove_nodes( op = Identity ,\n\top=CheckNumerics , )  ",
    'remove_nodes(op="Identity", op="CheckNumerics")',
    "remove_nodes(\\\n op=Identity, \\\n op=CheckNumerics) \\\n",
    "remove_nodes(op=Identity op=CheckNumerics)",
    'remove_nodes(op=Identity", op=CheckNumerics\')',
])
def test_the_same_step_in_many_spellings(text):
    assert steps(text) == [("remove_nodes", {"op": ["Identity", "CheckNumerics"], "max_inputs": 1,
                                             "ignore_errors": False})]


def test_a_comma_in_quotes_belongs_to_the_value():
    (name, values), = steps('strip_unused_nodes(type=float, shape="-1,299,299,3")')
    assert (name, values["shape"]) == ("strip_unused_nodes", "-1,299,299,3")


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "1"])
def test_every_transform_takes_ignore_errors_in_any_case(word):
    for item in every_transform():
        needed = "".join(f", {arg.name}=1" for arg in item.args if arg.required)
        assert parse(f"{item.name}(ignore_errors={word}{needed})")[0].args["ignore_errors"] is True
    assert parse("remove_device(ignore_errors=false)")[0].args["ignore_errors"] is False


def test_steps_in_order_with_and_without_parentheses():
    assert [name for name, _ in steps("remove_device() sort_by_execution_order\nremove_device")] == \
        ["remove_device", "sort_by_execution_order", "remove_device"]


@pytest.mark.parametrize(("text", "message"), [
    ("fold_constant", "no transform 'fold_constant' (did you mean 'fold_constants'?)"),
    ("remove_nodes(ops=Identity)", "remove_nodes: no argument 'ops' (did you mean 'op'?)"),
    ("remove_nodes", "remove_nodes: needs op=..."),
    ("remove_nodes(op=A, max_inputs=two)", "max_inputs=two: expected a whole number"),
    ("remove_device(ignore_errors=perhaps)", "ignore_errors=perhaps: expected true or false"),
    ("set_device(device=a, device=b)", "'device' is given 2 times"),
    ("remove_nodes(op=)", "looking for the value of remove_nodes's 'op', but found ')'"),
    ("remove_nodes(op=A", "looking for an argument of remove_nodes, or ')', but found 'the end'"),
    ("remove_nodes(op A)", "looking for '=' after 'op'"),
    ("&", "looking for a transform's name, but found '&'"),
    ("", "no transform is given"),
    ("@nowhere.txt", "@nowhere.txt: No such file"),
])
def test_what_does_not_parse_is_named(text, message):
    with pytest.raises(TransformError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [
    "remove_device", "remove_device()", "remove_device sort_by_execution_order", "set_device(device=\"/a:b\")",
    "set_device(device=/cpu, if_default=true)", "remove_device(", "set_device(device=)", "?", "nothing_of_the_sort"])
def test_pipelines_are_parsed_and_refused_as_by_the_tool(text):
    graph_def = build(lambda: v1.placeholder(tf.float32, [], "x"))

    def accepts(attempt):
        try:
            attempt()
        except (ToolError, UserError):
            return False
        return True
    tool = accepts(lambda: ORACLE.transform(graph_def, ["x"], ["x"], text))
    assert accepts(lambda: parse(text)) == tool or (tool and text.endswith("("))


def test_all_of_the_tools_transforms_are_there():
    assert len(THE_TOOLS) == 29
    assert set(THE_TOOLS) <= {item.name for item in every_transform()}


def test_every_transform_says_what_it_does_when_it_is_safe_and_where_it_is_from():
    for item in every_transform():
        assert len(item.summary) > 20, item.name
        assert "Safe when:" in item.doc, item.name
        assert "Source:" in item.doc, item.name
        assert all(arg.help for arg in item.args), item.name


def test_named_pipelines_and_files(tmp_path):
    article = [step.transform.name for step in parse(ARTICLE)]
    assert [step.transform.name for step in parse("article")] == article
    assert [step.transform.name for step in parse("article round_weights")] == [*article, "round_weights"]
    assert [step.transform.name for step in parse("default")] == [step.transform.name for step in parse(DEFAULT)]
    saved = tmp_path / "mine.txt"
    saved.write_text("# two steps\nremove_device\n  # of mine\nsort_by_execution_order\n")
    assert [name for name, _ in steps(f"@{saved}")] == ["remove_device", "sort_by_execution_order"]


def small():
    x = v1.placeholder(tf.float32, [None, 5], "x")
    product = tf.identity(tf.matmul(x, constant([5, CHANNELS], 1)))
    tf.multiply(product, tf.sqrt(tf.abs(constant([CHANNELS], 2))), name="y")


def test_the_report_counts_nodes_and_gives_reasons():
    before = build(small)
    after, report = transformed(before, ["x"], ["y"], "remove_nodes(op=Identity) fold_constants fold_batch_norms")
    entries = report.to_json()["steps"]
    assert [entry["transform"] for entry in entries] == ["remove_nodes", "fold_constants", "fold_batch_norms"]
    assert entries[0]["nodes_before"] == len(before.node)
    assert entries[-1]["nodes_after"] == len(after.node)
    assert [entry["applied"] for entry in entries] == [1, 1, 1]
    assert set(entries[0]) == {"transform", "applied", "skipped", "nodes_before", "nodes_after", "seconds"}
    _, report = transformed(before, ["x"], ["y", "Identity"], "remove_nodes(op=Identity)")
    assert report.to_json()["steps"][0]["skipped"] == [
        {"node": "Identity", "reason": "it is a requested input or output"}]


def test_a_failed_step_keeps_the_report_and_names_itself():
    graph = Graph.from_graph_def(build(small), ["x"], ["y"])
    text = 'fold_constants strip_unused_nodes(type=flaot, name=x, shape="1") remove_device'
    fed = Graph.from_graph_def(build(small), ["MatMul"], ["y"])
    with pytest.raises(StepError) as caught:
        run(fed, text)
    assert str(caught.value).startswith("strip_unused_nodes: no type 'flaot'")
    failed = caught.value.report.to_json()["steps"]
    assert [entry["transform"] for entry in failed] == ["fold_constants", "strip_unused_nodes"]
    assert "no type 'flaot'" in failed[-1]["error"]
    after, report = run(fed, text.replace("type=", "ignore_errors=TRUE, type="))
    assert [step.transform for step in report.steps] == ["fold_constants", "strip_unused_nodes", "remove_device"]
    assert report.steps[1].error
    assert "MatMul" in after.nodes
    assert graph.nodes.keys() == {item.name for item in build(small).node}


def invoke(*arguments):
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture
def in_graph(tmp_path):
    path = tmp_path / "in.pb"
    path.write_bytes(build(small).SerializeToString())
    return path


@pytest.mark.parametrize("ending", ["pb", "pbtxt"])
def test_the_command_writes_a_graph_and_a_report(in_graph, tmp_path, ending):
    out, report = tmp_path / f"out.{ending}", tmp_path / "report.json"
    text = invoke("--in_graph", str(in_graph), f"--out_graph={out}", "--inputs=x:0", "--outputs", "y",
                  "--transforms", "default", "--json", str(report))
    again = tmp_path / "again.pb"
    invoke("--in_graph", str(out), "--out_graph", str(again), "--inputs", "x", "--outputs", "y:0",
           "--transforms", "sort_by_execution_order")
    after = tf.compat.v1.GraphDef.FromString(again.read_bytes())
    assert ops(after) == {"Placeholder": 1, "MatMul": 1, "Const": 1}
    assert compared(build(small), after, ["y"], {"x": seeded([3, 5])}).equal
    assert json.loads(report.read_text())["steps"][-1]["nodes_after"] == 3
    assert "fold_batch_norms: 1 applied" in text


def test_the_command_prints_one_line_for_an_error(in_graph, tmp_path):
    out, report = tmp_path / "out.pb", tmp_path / "report.json"
    ended = subprocess.run(
        [sys.executable, "-m", "export", "transform", "--in_graph", in_graph, "--out_graph", out, "--inputs", "x",
         "--outputs", "nothing", "--transforms", "fold_constants", "--json", report],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode > 0
    assert ended.stderr == "error: output 'nothing' is not in the graph\n"
    assert not out.exists()


@pytest.mark.parametrize(("changes", "culprit"), [
    ({"--in_graph": "missing.pb"}, "missing.pb"),
    ({"--in_graph": __file__}, "test_pipeline.py"),
    ({"--transforms": "fold_everything"}, "fold_everything"),
    ({"--outputs": "yy"}, "'yy' is not in the graph (did you mean 'y'?)"),
    ({"--inputs": "xx"}, "'xx' is not in the graph (did you mean 'x'?)"),
    ({"--transforms": "rename_op(old_op_name=MatMul, new_op_name=Mul) fold_constants strip_unused_nodes(shape=abc)",
      "--inputs": "Identity"}, 'no shape "abc"'),
])
def test_no_error_leaves_an_output_file(in_graph, tmp_path, changes, culprit):
    out = tmp_path / "out.pb"
    options = {"--in_graph": str(in_graph), "--out_graph": str(out), "--inputs": "x", "--outputs": "y",
               "--transforms": "fold_constants"} | changes
    with pytest.raises((UserError, OSError)) as caught:
        invoke(*(part for option in options.items() for part in option))
    assert culprit in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [in_graph]


def test_after_an_error_in_a_step_the_report_says_which(in_graph, tmp_path):
    report = tmp_path / "report.json"
    with pytest.raises(StepError):
        invoke("--in_graph", str(in_graph), "--out_graph", str(tmp_path / "out.pb"), "--inputs", "Identity",
               "--outputs", "y", "--transforms", "fold_constants strip_unused_nodes(shape=abc)", "--json", str(report))
    entries = json.loads(report.read_text())["steps"]
    assert [bool(entry.get("error")) for entry in entries] == [False, True]


def test_the_list_of_transforms_and_the_page_of_one():
    listed = CliRunner().invoke(transforms_command, [])
    assert [line.split()[0] for line in listed.output.splitlines()] == [item.name for item in every_transform()]
    page = CliRunner().invoke(transforms_command, ["remove_nodes"]).output
    assert "Safe when:" in page
    assert "max_inputs=int: only nodes with at most this many data inputs (default 1)" in page
    everything = json.loads(CliRunner().invoke(transforms_command, ["--json", "-"]).output)
    assert {"name", "summary", "doc", "pattern", "args"} == set(everything[0])
    unknown = CliRunner().invoke(transforms_command, ["remove_node"], standalone_mode=False)
    assert "did you mean 'remove_nodes'?" in str(unknown.exception)


def test_the_list_does_not_import_tensorflow():
    code = ("import sys; from export.transform import every_transform; import export.pipeline; every_transform(); "
            "sys.exit('tensorflow' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_run_can_run_again_on_its_own_result():
    graph = Graph.from_graph_def(build(small), ["x"], ["y"])
    once, _ = run(graph, "default")
    twice, report = run(once, "default")
    assert [step.applied for step in report.steps if step.transform.startswith("fold")] == [0] * 7
    feeds = {"x": seeded([3, 5])}
    assert session_run(as_graph_def(whole(twice)), ["y"], feeds)["y"].tolist() == \
        session_run(as_graph_def(whole(once)), ["y"], feeds)["y"].tolist()


def test_versions_and_library_are_kept():
    @tf.function
    def twice(x):
        return x + x

    def make():
        x = v1.placeholder(tf.float32, [None], "x")
        tf.identity(twice(x), "y")
        tf.identity(twice(x * 2.0), "z")
    before = build(make)
    before.versions.producer, before.versions.min_consumer = 987, 12
    for item in every_transform():
        needed = "".join(f"{arg.name}=unused," for arg in item.args if arg.required)
        if item.name in ("inline_partitionedcall", "freeze_requantization_ranges"):
            continue
        after, _ = transformed(before, ["x"], ["y", "z"], f"{item.name}({needed})")
        assert after.versions == before.versions, item.name
        assert [function.signature.name for function in after.library.function] == \
            [function.signature.name for function in before.library.function], item.name
    assert named("strip_unused_nodes").bodies


def test_the_page_lists_every_transform():
    page = (ROOT / "docs" / "transforms.md").read_text()
    for item in every_transform():
        summary = item.summary.replace("|", r"\|")
        assert f"| `{item.name}` | {summary} |" in page, f"docs/transforms.md: the row of {item.name}"
