"""TensorFlow and the parts of it that load and run models, imported without its log output."""
import logging
import os

import tensorflow_alone
from commandline import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors arrive as exceptions
with quiet(), tensorflow_alone.importing():
    import tensorflow as tf
    from tensorflow.python.client import pywrap_tf_session  # the only way to make RunOptions buffers
    from tensorflow.python.framework import op_def_registry  # the only list of which operations keep state
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader  # loads in the same steps as C++
logging.getLogger("tensorflow").setLevel(logging.ERROR)

__all__ = ["SavedModelLoader", "op_def_registry", "pywrap_tf_session", "tf"]
