"""python -m export: a trained model -> graph -> transforms -> versioned SavedModel."""
import os

from commandline import Commands, run

# TensorFlow reads this when it is imported. Its errors arrive here as exceptions; its log would only repeat them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

COMMANDS = Commands("export", __doc__, {
    "build": ("export.zoo.build", "Make a reference model and export it as a SavedModel."),
    "import": ("export.importing", "A model in any form -> a SavedModel, the next version of a variant."),
    "optimize": ("export.optimization",
                 "Freeze, transform, reconvert, verify: publish the next version of a variant."),
    "freeze": ("export.freeze", "SavedModel -> frozen GraphDef."),
    "transform": ("export.pipeline", "Frozen GraphDef -> transformed GraphDef, with the Graph Transform Tool's flags."),
    "reconvert": ("export.reconvert", "GraphDef -> SavedModel with signatures."),
    "verify": ("export.verification", "Compare the answers of two models to the same inputs."),
    "samples": ("export.make_samples", "Make inputs that a model takes, as a file of samples."),
    "describe": ("export.describe", "Signatures, op counts and sizes of one model, or of two side by side."),
    "scan": ("export.scan", "List the operations of a SavedModel that touch files, network or Python."),
    "transforms": ("export.pipeline:transforms_command", "List the transforms, or explain one."),
}, {
    "optimize": {0: "the new version was published", 1: "a check refused it", 2: "it could not be run"},
    "verify": {0: "the answers are equal", 1: "they are not", 2: "it could not be run"},
    "scan": {0: "no operation touches files, network or Python, or all that do are allowed", 1: "one is not allowed",
             2: "it could not be run"},
})

if __name__ == "__main__":
    run(COMMANDS)
