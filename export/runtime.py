"""TensorFlow, imported without its log output: `from export.runtime import tf` where a command first needs it."""
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow_alone
from commandline import quiet

# TensorFlow reads this when it is imported, also in the processes that run models. Its errors arrive as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with quiet(), tensorflow_alone.importing():
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of writing a file into OSErrors that name it: TensorFlow has its own, and `write` names no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # h5py and Keras raise these, with only a message
            raise
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, str(path)) from error


__all__ = ["tf", "writing"]
