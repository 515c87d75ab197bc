"""A shared library with a custom operation, KitIdentity, compiled from C in a second, and a model that uses it.

Both are made in child processes: a process cannot unload a library.
"""
import subprocess
import sys
from pathlib import Path

SOURCE = r"""
#include <stddef.h>
/* TensorFlow's C interface, declared here since TensorFlow's headers need C++. */
typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;
TF_Status *TF_NewStatus(void);
void TF_DeleteStatus(TF_Status *);
void TF_DeleteTensor(TF_Tensor *);
void TF_GetInput(TF_OpKernelContext *, int, TF_Tensor **, TF_Status *);
void TF_SetOutput(TF_OpKernelContext *, int, const TF_Tensor *, TF_Status *);
void TF_ShapeInferenceContextSetUnknownShape(TF_ShapeInferenceContext *, TF_Status *);
TF_OpDefinitionBuilder *TF_NewOpDefinitionBuilder(const char *);
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderSetShapeInferenceFunction(
    TF_OpDefinitionBuilder *, void (*)(TF_ShapeInferenceContext *, TF_Status *));
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder *, TF_Status *);
TF_KernelBuilder *TF_NewKernelBuilder(const char *, const char *, void *(*)(TF_OpKernelConstruction *),
                                      void (*)(void *, TF_OpKernelContext *), void (*)(void *));
void TF_RegisterKernelBuilder(const char *, TF_KernelBuilder *, TF_Status *);

static void *create(TF_OpKernelConstruction *context) { return NULL; }
static void forget(void *kernel) {}
static void compute(void *kernel, TF_OpKernelContext *context) {
  TF_Status *status = TF_NewStatus();
  TF_Tensor *x = NULL;
  TF_GetInput(context, 0, &x, status);
  TF_SetOutput(context, 0, x, status);
  TF_DeleteTensor(x);
  TF_DeleteStatus(status);
}
static void any_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}
__attribute__((constructor)) static void enter(void) {
  TF_Status *status = TF_NewStatus();
  TF_OpDefinitionBuilder *op = TF_NewOpDefinitionBuilder("KitIdentity");
  TF_OpDefinitionBuilderAddInput(op, "x: float");
  TF_OpDefinitionBuilderAddOutput(op, "y: float");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, &any_shape);
  TF_RegisterOpDefinition(op, status);
  TF_RegisterKernelBuilder("KitIdentity", TF_NewKernelBuilder("KitIdentity", "CPU", &create, &compute, &forget),
                           status);
  TF_DeleteStatus(status);
}
"""

MODEL = """
import sys, numpy as np, tensorflow as tf
library = tf.load_op_library(sys.argv[1])
class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": library.kit_identity(x=x)}
model = Model()
tf.saved_model.save(model, sys.argv[2], signatures=model.serve)
"""


def build(folder: Path) -> Path:
    """Compiles the library and returns its path."""
    source, library = folder / "kit.c", folder / "kit.so"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def save_model(library: Path, path: Path) -> None:
    """Writes a SavedModel whose output `y` is its input `x`, returned by KitIdentity."""
    subprocess.run([sys.executable, "-c", MODEL, str(library), str(path)], check=True, capture_output=True)
