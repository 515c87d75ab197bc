"""python -m serving: host SavedModels and talk to them."""
from commandline import Commands, run

COMMANDS = Commands("serving", __doc__, {
    "serve": ("serving.server", "The embedded server: TensorFlow Serving's REST and gRPC API, and its flags."),
    "predict": ("serving.client.predict", "Send one request to a running server and print the answer."),
    "status": ("serving.client.status", "The versions of a model on a running server, and their states."),
    "record": ("serving.client.record", "Record requests to a running server and its answers."),
}, {
    "serve": {0: "it was stopped and every request was answered", 1: "running requests had to be cut off",
              255: "it could not start"},
    "predict": {0: "the model answered", 1: "the server refused the request", 2: "no request could be made or sent"},
    "status": {0: "a version is AVAILABLE", 1: "none is, or the model is unknown", 2: "the server cannot be reached"},
})

if __name__ == "__main__":
    run(COMMANDS)
