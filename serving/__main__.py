"""python -m serving: host SavedModels and talk to them."""
from commandline import Commands, run

# Of the commands that change production.
STATUSES = {0: "it is done, or was already so", 1: "it could not be run", 2: "it was asked wrongly",
            3: "a gate failed", 4: "another process changes the root", 5: "a server does not answer",
            6: "it was rolled back"}

COMMANDS = Commands("serving", __doc__, {
    "serve": ("serving.server", "The embedded server: TensorFlow Serving's REST and gRPC API, and its flags."),
    "predict": ("serving.client.predict", "Send one request to a running server and print the answer."),
    "status": ("serving.promotion.status", "The versions of a model on a running server, or a production root."),
    "record": ("serving.client.record", "Record requests to a running server and its answers."),
    "promote": ("serving.promotion.promote:promote_command", "Make a proven version stable in production."),
    "canary": ("serving.promotion.promote:canary_command", "Give a proven version the label canary."),
    "rollback": ("serving.promotion.upkeep:rollback_command", "Take the canary away, or move stable back."),
    "audit": ("serving.promotion.upkeep:audit_command", "Check production's files and history."),
    "history": ("serving.promotion.upkeep:history_command", "What was promoted, when, by whom, and why."),
    "gc": ("serving.promotion.upkeep:gc_command", "Drop versions that nothing needs."),
}, {
    "serve": {0: "it was stopped and every request was answered", 1: "running requests had to be cut off",
              255: "it could not start"},
    "predict": {0: "the model answered", 1: "the server refused the request", 2: "no request could be made or sent"},
    "status": {0: "a version is AVAILABLE", 1: "none is, or the model is unknown", 2: "the server cannot be reached"},
    "audit": {0: "all is as recorded", 1: "something is not, or it could not be run", 2: "it was asked wrongly"},
    "history": {0: "it was shown", 1: "it could not be read", 2: "it was asked wrongly"},
    **dict.fromkeys(("promote", "canary", "rollback", "gc"), STATUSES),
})

if __name__ == "__main__":
    run(COMMANDS)
