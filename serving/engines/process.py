"""What the flags set for all graphs of this process: libraries of operations, threads, reduced precision, XLA."""
import ctypes
import logging
from pathlib import Path
from typing import Any

import cpu_class
from serving import text_proto
from serving.engines.runtime import tf
from serving.errors import invalid
from serving.protos import config_pb2

log = logging.getLogger("serving")


def load_op_libraries(paths: str) -> None:
    """Loads the shared libraries of --tensorflow_op_libraries. Raises ServingError that names the faulty one."""
    for path in filter(None, paths.split(",")):
        try:
            tf.load_op_library(path)
        except (tf.errors.OpError, OSError, RuntimeError) as error:
            raise invalid(f"--tensorflow_op_libraries: {path} cannot be loaded: "
                          f"{getattr(error, 'message', '') or error}") from None


def session_options(config_file: str, session: int, intra_op: int, inter_op: int, mixed_precision: str = "") -> Any:
    """The ConfigProto for every session: the file's, with what the flags say of threads and precision.

    Raises ServingError.
    """
    options = config_pb2.ConfigProto()
    if config_file:
        text_proto.read(config_file, options)
    if session and intra_op and inter_op:
        raise invalid("Either configure server_options.tensorflow_session_parallelism or "
                      "(server_options.tensorflow_intra_op_parallelism, "
                      "server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all.")
    if not intra_op and not inter_op:
        intra_op = inter_op = session
    if intra_op:
        options.intra_op_parallelism_threads = intra_op
    if inter_op:
        options.inter_op_parallelism_threads = inter_op
    if mixed_precision == "bfloat16":
        log.info("Running inference with bfloat16 auto mixed precision")
        if not (here := cpu_class.current()).has_bf16:
            log.warning("--mixed_precision=bfloat16: this CPU (%s) has no instructions for it, so it may be slower",
                        here)
        rewriting = options.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriting.ON
    elif mixed_precision:
        log.warning("%s auto mixed precision is not supported. Valid option: bfloat16", mixed_precision)
    return options


def allow_xla(allowed: bool) -> None:  # decision 197
    """Whether parts of a graph that ask for it are compiled with XLA; otherwise running them is an error.

    It holds for the whole process, as in the original. TensorFlow offers no Python function for it.
    """
    name = f"_ZN10tensorflow{'20Enable' if allowed else '21Disable'}XlaCompilationEv"
    for library in Path(tf.sysconfig.get_lib()).glob("libtensorflow_cc.*"):
        switch = getattr(ctypes.CDLL(str(library)), name, None)
        if switch is not None:
            switch()
            return
    if not allowed:
        log.warning("this TensorFlow cannot switch off XLA: models that ask for it are compiled all the same")
