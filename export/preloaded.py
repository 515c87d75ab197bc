"""Imported where the processes that run models are forked from: TensorFlow for all of them."""
from importlib import import_module

import tensorflow_alone

tensorflow_alone.own_process = True
import_module("export.runtime")
