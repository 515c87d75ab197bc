"""The study of Keras models: six kinds that people serve, beside what else could run them.

No article; the question is the one that every user has: how much faster is my model, in which engine, at which batch
size, and how far is it from what the machine can do?
"""
from benchmark.studies.study import (
    OTHER_TOOLS,
    Article,
    Ceiling,
    Part,
    Step,
    Study,
    Variant,
    Way,
    converted,
    optimized,
)

ARTICLE = Article("this project", 2026, "Keras models, and what else runs them", "")
BATCHES = (1, 8, 32)
NAMES = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50", "efficientnet_b0": "EfficientNetB0",
         "inception_v3": "InceptionV3", "text_classifier": "Text classifier", "encoder": "Encoder like BERT-base"}
# What others make of it is a part of its own: 13 processes of the encoder take more than 24 GB.
APART = ("encoder",)
QUICK = ("mobilenet_v2",)
KINDS = ("optimized", "bfloat16", "int8", "litert-float32", "litert-int8", "openvino-float32", "openvino-int8")
VARIANTS: tuple[Variant, ...] = tuple(variant for name in NAMES for variant in optimized(name, KINDS))
IN_PROCESS = (
    Step("original", "session:original"),
    Step("original, one thread", "session:original", threads=1),
    Step("Keras predict", "session:original", kind="keras", foreign=True),
    Step("optimized", "session:optimized"),
    Step("bfloat16", "session:bfloat16"),
    Step("int8", "session:int8"),
    Step("LiteRT float32", "session:litert-float32@litert"),
    Step("LiteRT int8", "session:litert-int8@litert"),
    Step("OpenVINO float32", "session:openvino-float32@openvino"),
    Step("OpenVINO int8", "session:openvino-int8@openvino"),
    *OTHER_TOOLS)
SERVED = (Step("original", "original"), Step("optimized", "optimized"), Step("int8", "int8"),
          Step("LiteRT int8", "litert-int8@litert"),
          Step("OpenVINO int8", "openvino-int8@openvino"))


ONE = "One process of each target: the noise floor does not include how far equal processes are apart."


def parts(name: str) -> tuple[Part, ...]:
    """In process and over gRPC, at each batch size."""
    quick = 20 if name in QUICK else None
    others = tuple(each for each in IN_PROCESS if each.foreign)
    own = tuple(each for each in IN_PROCESS if not each.foreign)
    made = [Part(f"{name}-in-process", f"{NAMES[name]} in process", name, own if name in APART else IN_PROCESS, BATCHES,
                 quick=quick, most_s=200, processes=1, baselines=("original, one thread",), note=ONE)]
    if name in APART:
        made.append(Part(f"{name}-others", f"{NAMES[name]} in process, other tools", name, (own[0], *others), BATCHES,
                         quick=quick, most_s=200, processes=1, note=ONE))
    return (*made, Part(f"{name}-served", f"{NAMES[name]} over gRPC", name, SERVED, BATCHES, ("grpc",), quick=quick,
                        most_s=90, processes=1, note=ONE))


STUDY = Study(
    "keras", "Keras models", ARTICLE, tuple((name, "--keras") for name in NAMES), VARIANTS,
    tuple(part for name in NAMES for part in parts(name)),
    Way("mobilenet_v2-in-process", "in-process", 32, "MobileNetV2, 32 images in process",
        ("original", "optimized", "bfloat16", "LiteRT int8", "int8", "OpenVINO int8")),
    (),
    tuple(Ceiling(f"{name}-in-process", 8, label, precision) for name in NAMES
          for label, precision in (("optimized", "float32"), ("bfloat16", "bfloat16"), ("int8", "int8"))),
    converted(*NAMES),
    {(name, variant): f"{NAMES[name]}, {variant}" for name in NAMES for variant in ("original", "optimized", "int8")},
    about_minutes=70)
