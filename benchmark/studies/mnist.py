"""The study of Google Cloud's article of 2018: a convolutional MNIST classifier, 100 images a batch, 1,000 batches.

The article trains the classifier, exports it, freezes and transforms it, and serves both with TensorFlow Serving. Its
last sections try quantized weights, which make the file smaller and nothing faster, and name batches of one image as
what to try next.
"""
from collections.abc import Mapping
from dataclasses import replace

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

MODEL = "mnist"
ARTICLE = Article(
    "Google Cloud", 2018, "Optimizing TensorFlow Models for Serving",
    "https://medium.com/google-cloud/optimizing-tensorflow-models-for-serving-959080e9ddbf",
    ("", "original", "frozen", "transformed", "gain"),
    (("served: 1,000 batches of 100, s", "189.8", "", "162.4", "1.17"),
     ("predictor in process: 100 batches of 300, s", "36.74", "", "31.12", "1.18"),
     ("nodes", "308", "94", "62", ""),
     ("Const", "61", "34", "29", ""),
     ("variables", "97", "0", "0", ""),
     ("Identity", "30", "27", "0", ""),
     ("graph and variables, KB", "57 + 10,692", "", "10,702", "")),
    (("Google Cloud 2018, served", 189.8 / 162.4),))
VARIANTS = (
    Variant(MODEL, "article", ("--transforms", "article")),
    Variant(MODEL, "stored-int8", ("--storage", "int8"), quick=False),
    *optimized(MODEL, ("optimized", "bfloat16", "int8", "litert-float32", "litert-int8", "openvino-int8")))
ONE_THREAD = ("--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=1")
SERVED = (
    Step("original", "original"),
    Step("original, one thread", "original", flags=ONE_THREAD),
    Step("the article's transforms", "article"),
    Step("optimized", "optimized"),
    Step("bfloat16", "bfloat16"),
    Step("int8", "int8"),
    Step("LiteRT float32", "litert-float32@litert"),
    Step("OpenVINO int8", "openvino-int8@openvino"),
    Step("LiteRT int8", "litert-int8@litert"))
ONE_IMAGE = (*SERVED, Step("optimized, one thread", "optimized", flags=ONE_THREAD),
             Step("int8, one thread", "int8", flags=ONE_THREAD))
WAY = ("original", "the article's transforms", "optimized", "bfloat16", "int8", "OpenVINO int8", "LiteRT int8")
IN_PROCESS = (
    Step("original", "session:original"),
    Step("original, predictor", "predictor:original"),
    Step("original, one thread", "session:original", threads=1),
    Step("the article's transforms", "session:article"),
    Step("optimized", "session:optimized"),
    Step("weights stored in 8 bits", "session:stored-int8"),
    Step("bfloat16", "session:bfloat16"),
    Step("int8", "session:int8"),
    Step("int8, one thread", "session:int8", threads=1),
    Step("OpenVINO int8", "session:openvino-int8@openvino"),
    Step("LiteRT int8", "session:litert-int8@litert"),
    Step("Keras predict", "session:original", kind="keras", foreign=True),
    *OTHER_TOOLS)
BASELINES = ("original, one thread",)
FASTEST = ("int8", "OpenVINO int8", "LiteRT int8")
STUDY = Study(
    MODEL, "The MNIST classifier of 2018", ARTICLE, ((MODEL, "--keras"),), VARIANTS,
    (Part("served", "Served: 1,000 batches of 100 images", MODEL, SERVED, (100,), ("grpc", "rest"), requests=1000,
          most_s=1200, baselines=BASELINES),
     Part("one-image", "Served: one image a request", MODEL, ONE_IMAGE, (1,), ("grpc", "rest"), requests=2000,
          quick=200, most_s=600, baselines=BASELINES),
     Part("in-process", "In process: 100 images and one, without a server", MODEL, IN_PROCESS, (100, 1), quick=None,
          baselines=(*BASELINES, "original, predictor"))),
    Way("served", "grpc", 100, "1,000 batches of 100 images over gRPC", WAY),
    (Goal("1.05 in float32, served at batch 100, on any server", "served", "grpc", 100, ("optimized",), 1.05),
     Goal("1.05 in float32, served at batch 100, by this project's server", "served", "grpc", 100,
          ("optimized", "LiteRT float32"), 1.05),
     Goal("2.37 served at batch 100, the best of docs/proof/precision.json", "served", "grpc", 100, FASTEST, 2.366)),
    (Ceiling("in-process", 100, "optimized", "float32"), Ceiling("in-process", 100, "bfloat16", "bfloat16"),
     Ceiling("in-process", 100, "int8", "int8")),
    converted(MODEL),
    {(MODEL, "original"): "original", (MODEL, "article"): "the article's transforms",
     (MODEL, "optimized"): "optimized", (MODEL, "stored-int8"): "weights stored in 8 bits", (MODEL, "int8"): "int8"},
    about_minutes=15)


def on_cloud(endpoints: Mapping[str, str]) -> Study:
    """The study with one more part: the article's 1,000 batches sent to endpoints in the cloud, too.

    endpoints: by variant, the address of the endpoint that serves it, as in `python -m benchmark compare --url`.
    """
    steps = (Step("original, here", "original"),
             *(Step(f"{variant}, in the cloud", variant, address=url) for variant, url in endpoints.items()))
    part = Part("cloud", "In the cloud: 1,000 batches of 100 images", MODEL, steps, (100,), ("rest",), requests=1000,
                quick=20, most_s=1800, processes=1)
    return replace(STUDY, parts=(*STUDY.parts, part))
