"""python -m benchmark: scenario -> arrivals -> measurement -> comparison -> report."""
from commandline import Commands, run

COMMANDS = Commands("benchmark", __doc__, {
    "compare": ("benchmark.compare", "Measure variants side by side and say which is faster, or that one cannot tell."),
})

if __name__ == "__main__":
    run(COMMANDS)
