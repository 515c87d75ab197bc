"""The study of Intel's article of 2021: ssd_inception_v2, one picture a run, with TensorFlow's optimizer on and off.

The article measures the detector of TensorFlow's model zoo of 2018 with `--num_iter 200 --num_warmup 10` and Grappler
off (`--disable_optimize`), before and after freezing and folding. That detector's weights cannot be had without a
network; the one here has its layers (see export/zoo/detector.py) and random weights, which show speed and size.
"""
from benchmark.studies.study import (
    OTHER_TOOLS,
    Article,
    Ceiling,
    Goal,
    Part,
    Step,
    Study,
    Variant,
    Way,
    converted,
    optimized,
)

MODEL = "detector"
ARTICLE = Article(
    "Intel", 2021, "Optimize TensorFlow Pre-trained Model for Inference",
    "https://www.intel.com/content/www/us/en/developer/articles/technical/"
    "optimize-tensorflow-pre-trained-model-inference.html",
    ("", "original", "optimized", "gain"),
    (("pictures a second, one a run, Grappler off", "15.67", "", "1.66"),
     ("Const", "396", "165", ""),
     ("Identity", "386", "", ""),
     ("FusedBatchNorm", "77", "0", ""),
     ("BiasAdd", "", "77", "")),
    (("Intel 2021", 1.66),))
VARIANTS = (
    *optimized(MODEL, ("optimized", "bfloat16", "int8", "litert-float32", "openvino-float32", "litert-int8",
                       "openvino-int8"), engine_signatures="serving_default"),
    Variant(MODEL, "fused", ("--batch", "1,3", "--transforms", "default fuse_activations")),
    Variant(MODEL, "fastest", ("--batch", "1,3", "--precision", "auto", "--batch-of-interest", "1,8", "--max-time",
                               "40"), quick=False))


def steps(grappler: bool) -> tuple[Step, ...]:
    """The way from the original to the fastest, in process."""
    def session(label: str, target: str, threads: int = 0) -> Step:
        return Step(label, f"session:{target}", grappler=grappler or "@" in target, threads=threads)
    return (session("original", "original"), session("original, one thread", "original", 1),
            session("optimized", "optimized"), session("activations fused", "fused"),
            session("bfloat16", "bfloat16"), session("int8", "int8"),
            session("fastest stock", "fastest"),
            session("LiteRT float32", "litert-float32@litert"),
            session("OpenVINO float32", "openvino-float32@openvino"),
            session("LiteRT int8", "litert-int8@litert"), session("OpenVINO int8", "openvino-int8@openvino"),
            *(OTHER_TOOLS if grappler else ()))


SERVED = (Step("original", "original"), Step("optimized", "optimized"), Step("bfloat16", "bfloat16"),
          Step("int8", "int8"), Step("OpenVINO int8", "openvino-int8@openvino"))
DETECTION = (Step("original", "session:original"), Step("optimized", "session:optimized"),
             Step("int8", "session:int8"))
BASELINES = ("original, one thread",)
STUDY = Study(
    "ssd", "The detector of 2021", ARTICLE, ((MODEL,),), VARIANTS,
    (Part("grappler-off", "In process, Grappler off on both sides", MODEL, steps(False), (1,), requests=200,
          most_s=300, baselines=BASELINES,
          note="As the article measures (--num_iter 200 --num_warmup 10 --disable_optimize). LiteRT and OpenVINO have "
               "no Grappler."),
     Part("grappler-on", "In process, as TensorFlow Serving runs it", MODEL, steps(True), (1, 8), requests=100,
          most_s=600, baselines=BASELINES),
     Part("served", "Served: one picture a request, and eight", MODEL, SERVED, (1, 8), ("grpc", "rest"), requests=60,
          most_s=600, quick=20, quick_s=60),
     Part("detection", "In process: with boxes decoded and selected (non-maximum suppression)", MODEL, DETECTION, (1,),
          requests=200, most_s=300, signature="detection", quick=None)),
    Way("grappler-off", "in-process", 1, "one picture in process, Grappler off",
        ("original", "optimized", "activations fused", "bfloat16", "int8", "fastest stock", "OpenVINO int8")),
    (Goal("1.66 with Grappler off, equal in float32", "grappler-off", "in-process", 1,
          ("optimized", "activations fused"), 1.66),
     Goal("1.3 as TensorFlow Serving runs it, equal in float32", "grappler-on", "in-process", 1,
          ("optimized", "activations fused"), 1.3),
     Goal("1.3 as this project's server runs it, equal in float32", "grappler-on", "in-process", 1,
          ("optimized", "LiteRT float32", "OpenVINO float32"), 1.3),
     Goal("4.3 in int8 (published for SSD networks on amx)", "grappler-off", "in-process", 1,
          ("int8", "fastest stock", "LiteRT int8", "OpenVINO int8"), 4.3)),
    (Ceiling("grappler-on", 8, "optimized", "float32"), Ceiling("grappler-on", 8, "bfloat16", "bfloat16"),
     Ceiling("grappler-on", 8, "int8", "int8")),
    converted(MODEL),
    {(MODEL, "original"): "original", (MODEL, "optimized"): "optimized",
     (MODEL, "fused"): "activations fused", (MODEL, "bfloat16"): "bfloat16",
     (MODEL, "int8"): "int8"},
    about_minutes=15)
