"""The study of the article of 2019: letters to phonemes on one CPU, and the same network made for serving.

The article calls a graph 20 times for a word: each call runs the whole encoder and 20 steps of the decoder, and one
phoneme of its answer is new. It tries instruction sets, libraries, threads, freezing and transforms: 6.19 times in
all. Its client's loop is the baseline here, in its cheapest form: the graph's feeds and fetches compiled once, the
times of all 20 calls and nothing else. docs/recipes/autoregressive.md says what makes the network so much faster.
"""
from collections.abc import Iterable
from dataclasses import replace

from benchmark.studies.study import Article, Goal, Part, Profile, Step, Study, Variant, Way
from benchmark.targets.target import CLIENT_LOOP

MODEL = "g2p"
WORDS = (1, 2, 6, 7, 10, 15, 20)
ARTICLE = Article(
    "thekev.in", 2019, "Tensorflow Model Optimization", "https://thekev.in/blog/2019/tensorflow-model-optimization.html",
    ("ms for so many words", *map(str, WORDS), "gain"),
    (("initial", "303", "761", "838", "916", "1074", "1330", "1404", "1"),
     ("AVX2 and FMA", "245", "680", "642", "753", "913", "1141", "1388", "1.2"),
     ("MKL", "2679", "2909", "4620", "4700", "5119", "6880", "7041", "0.19"),
     ("MKL, threads 1/1", "782", "1480", "1711", "1650", "1580", "2270", "2651", "0.5"),
     ("MKL, threads 1/1, OMP_NUM_THREADS=1", "91", "116", "134", "139", "165", "210", "240", "5.9"),
     ("SavedModel", "103", "128", "146", "153", "172", "204", "258", "5.4"),
     ("frozen", "88", "115", "133", "140", "155", "198", "241", "6"),
     ("transformed", "84", "108", "130", "140", "155", "192", "240", "6.19")),
    (("thekev.in 2019", 6.19),))
# Freezing alone, and then what the article does: it names these transforms, in this order.
FREEZE = "strip_unused_nodes"
TRANSFORMS = ("strip_unused_nodes remove_nodes(op=CheckNumerics) merge_duplicate_nodes fold_constants fold_batch_norms "
              "fold_old_batch_norms")
BATCHES = ("--batch", "1,3")
VARIANTS = (Variant(MODEL, "frozen", (*BATCHES, "--transforms", FREEZE)),
            Variant(MODEL, "transformed", (*BATCHES, "--transforms", TRANSFORMS)),
            Variant(MODEL, "litert", (*BATCHES, "--engine", "litert", "--unmeasured"), source="serving"),
            Variant(MODEL, "litert-dynamic", (*BATCHES, "--engine", "litert", "--precision", "dynamic", "--unmeasured"),
                    source="serving"))
# The article's container: --cpus=1 --memory=4G.
ONE_CPU = ("taskset", "-c", "0", "prlimit", "--data=4294967296")


def loop(label: str, variant: str = "original", threads: int = 0, **env: str) -> Step:
    """The client's loop on one CPU."""
    return Step(label, f"session:{variant}", kind=CLIENT_LOOP, threads=threads, env=tuple(env.items()), prefix=ONE_CPU)


def alone(label: str, variant: str, threads: int = -1) -> Step:
    """One run a request on one CPU."""
    return Step(label, f"session:{variant}", threads=threads, prefix=ONE_CPU)


def of_all_cpus(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The same steps on all CPUs."""
    return tuple(replace(step, prefix=()) for step in steps)


EIGHT_BITS = "by LiteRT, one thread, weights in 8 bits"
CHAIN = (
    loop("oneDNN off, TensorFlow's threads", TF_ENABLE_ONEDNN_OPTS="0"),
    loop("oneDNN on, TensorFlow's threads"),
    loop("threads 1/1", threads=1),
    loop("threads 1/1, oneDNN off", threads=1, TF_ENABLE_ONEDNN_OPTS="0"),
    loop("threads 1/1, OMP_NUM_THREADS=1", threads=1, OMP_NUM_THREADS="1"),
    loop("threads 1/1, instructions of SSE4.1", threads=1, ONEDNN_MAX_CPU_ISA="SSE41"),
    loop("threads 1/1, instructions of AVX2", threads=1, ONEDNN_MAX_CPU_ISA="AVX2"),
    loop("in the thread that asks", threads=-1),
    loop("threads 1/1, frozen", "frozen", 1),
    loop("threads 1/1, transformed", "transformed", 1))
REWRITE = (
    loop("20 calls by the client", threads=1),
    loop("20 calls, TensorFlow's threads"),
    loop("20 calls, in the thread that asks", threads=-1),
    loop("20 calls, oneDNN off", threads=1, TF_ENABLE_ONEDNN_OPTS="0"),
    loop("20 calls, transformed as in the article", "transformed", -1),
    alone("the loop in the graph", "loop"),
    alone("tables, early exit", "serving"),
    alone("the same, compiled by XLA", "serving_xla"),
    Step("the same, by LiteRT", "session:litert@litert", prefix=ONE_CPU),
    Step(EIGHT_BITS, "session:litert-dynamic@litert", prefix=ONE_CPU, threads=1))
LOOPS = ("20 calls, TensorFlow's threads", "20 calls, in the thread that asks", "20 calls, oneDNN off")
# Two threads can be slower where operations are as small as these.
ONE_THREAD = "the same, by LiteRT, one thread"
XLA = ("--xla_cpu_compilation_enabled",)
SERVED = (
    Step("20 calls in process", "session:original", kind=CLIENT_LOOP, threads=1),
    Step("20 calls in process, TensorFlow's threads", "session:original", kind=CLIENT_LOOP),
    Step("20 calls in process, in the thread that asks", "session:original", kind=CLIENT_LOOP, threads=-1),
    Step("20 calls in process, oneDNN off", "session:original", kind=CLIENT_LOOP, threads=1,
         env=(("TF_ENABLE_ONEDNN_OPTS", "0"),)),
    Step("20 requests", "original", kind=CLIENT_LOOP),
    Step("the loop in the graph", "loop"),
    Step("tables, early exit", "serving"),
    Step("the same, compiled by XLA", "serving_xla", flags=XLA),
    Step("the same, by LiteRT", "litert@litert"),
    Step(ONE_THREAD, "litert@litert", flags=("--tensorflow_intra_op_parallelism=1",)),
    Step(EIGHT_BITS, "litert-dynamic@litert", flags=("--tensorflow_intra_op_parallelism=1",)))
FASTEST = ("tables, early exit", "the same, compiled by XLA", "the same, by LiteRT", EIGHT_BITS)
FASTEST_OF_ALL_CPUS = (*FASTEST, ONE_THREAD)
STUDY = Study(
    MODEL, "Letters to phonemes, 2019", ARTICLE,
    ((MODEL,), (MODEL, "--form", "loop"), (MODEL, "--form", "serving"), (MODEL, "--form", "serving_xla")), VARIANTS,
    (Part("chain", "The article's chain: the client's loop on one CPU, by the number of words", MODEL, CHAIN, WORDS,
          requests=30, quick=4, most_s=600, quick_s=60, warmup=2, processes=1,
          note="One core and 4 GB for each process. The wheel of today has AVX2 and oneDNN built in: what the article "
               "compiled is switched on and off here."),
     Part("rewrite", "The same network made for serving: in process, on one CPU", MODEL, REWRITE, (1, 32), requests=100,
          quick=20, most_s=300, quick_s=40, processes=1,
          baselines=LOOPS),
     Part("all-cpus", "The same in process, on all CPUs", MODEL,
          (*of_all_cpus(REWRITE), Step(ONE_THREAD, "session:litert@litert", threads=1)), (1, 32), requests=100,
          quick=None, most_s=300, processes=1, baselines=LOOPS),
     Part("served", "Served: one word a request, and 32", MODEL, SERVED, (1, 32), ("grpc", "rest"), requests=100,
          quick=10, most_s=400, quick_s=60,
          baselines=("20 calls in process, TensorFlow's threads", "20 calls in process, in the thread that asks",
                     "20 calls in process, oneDNN off"))),
    Way("rewrite", "in-process", 1, "one word in process, one CPU",
        ("20 calls by the client", "20 calls, transformed as in the article", "the loop in the graph", *FASTEST)),
    (Goal("150 for one word, in process, on one CPU", "rewrite", "in-process", 1, FASTEST, 150),
     Goal("150 for one word, in process, on all CPUs", "all-cpus", "in-process", 1, FASTEST_OF_ALL_CPUS, 150),
     Goal("60 for 32 words, in process, on one CPU", "rewrite", "in-process", 32, FASTEST, 60),
     Goal("60 for 32 words, in process, on all CPUs", "all-cpus", "in-process", 32, FASTEST_OF_ALL_CPUS, 60),
     Goal("100 for one word, over gRPC", "served", "grpc", 1, FASTEST_OF_ALL_CPUS, 100)),
    shown={(MODEL, "original"): "original", (MODEL, "frozen"): "frozen", (MODEL, "transformed"): "transformed",
           (MODEL, "serving"): "tables, early exit"},
    profile=Profile("One word", MODEL, (
        ("one of the client's 20 calls", "original"), ("the same, transformed", "transformed"),
        ("the loop in the graph", "loop"), ("tables, early exit", "serving"))),
    about_minutes=15)
