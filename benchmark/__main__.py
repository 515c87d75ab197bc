"""python -m benchmark: scenario -> arrivals -> measurement -> comparison -> report."""
from commandline import Commands, run

COMMANDS = Commands("benchmark", __doc__, {
    "compare": ("benchmark.side_by_side",
                "Measure variants side by side and report which is faster, or that it cannot be told."),
    "run": ("benchmark.run", "Measure variants under one scenario (MLPerf's, an open or a closed loop, your own)."),
    "scenarios": ("benchmark.catalogue", "List the scenarios."),
    "sweep": ("benchmark.sweep", "Measure under growing load: the throughput-latency curve and its knee."),
    "search": ("benchmark.search", "Find the highest rate at which a latency objective (SLO) is met."),
    "split": ("benchmark.split", "Show the parts of a request's time: client, wire, parse, queue, run, render."),
    "overhead": ("benchmark.overhead",
                 "Measure what the server adds to Session.run, compared with empty servers and FastAPI."),
    "profile": ("benchmark.profile", "Show a flame graph of the server, time by operation, and CPU instructions used."),
    "tune": ("benchmark.tune", "Find a server's fastest settings for a load, within the CPU quota."),
    "study": ("benchmark.study",
              "Repeat a published experiment, and show every step from its original to the fastest."),
    "report": ("benchmark.report", "Show stored results, or several side by side, as tables, HTML, Markdown or JSON."),
    "null-server": ("benchmark.targets.null_server",
                    "Start a server that does nothing, to measure the load generator itself."),
}, {
    "compare": {0: "it was measured, whatever the verdict", 1: "answers were wrong, a server died, or a demand "
                "(--fail-if, --fail-if-not, --budget) is not met", 2: "it could not be run"},
    "run": {0: "every run is VALID and meets its SLO", 1: "one is INVALID or misses it, answers were wrong, or a "
            "server died", 2: "it could not be run"},
})

if __name__ == "__main__":
    run(COMMANDS)
