"""python -m serving: host SavedModels and talk to them."""
from commandline import Commands, run

COMMANDS = Commands("serving", __doc__, {
    "serve": ("serving.server", "The embedded server: TensorFlow Serving's REST and gRPC API, and its flags."),
    "predict": ("serving.client.predict", "Send one request to a running server and print the answer."),
    "status": ("serving.client.status", "The versions of a model on a running server, and their states."),
    "record": ("serving.client.record", "Record requests to a running server and its answers."),
})

if __name__ == "__main__":
    run(COMMANDS)
