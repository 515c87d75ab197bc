"""What "cannot tell" means for one comparison, and what to do next, in a sentence for those who read it first."""
from math import log, log1p

from benchmark.verdicts.comparison import TYPICAL
from benchmark.verdicts.records import ComparisonRecord

CLOSE = "Close other programs, wait until the machine is idle, and run it again."
# Of half the width of an interval: processes, and not the noise of rounds, make it wide.
MOSTLY = 0.8


def next_step(c: ComparisonRecord) -> str | None:
    """Why there is no verdict and what helps; None if there is one, or if `reasons` say what is wrong already."""
    if c["verdict"] != "cannot tell":
        return None
    if not c["valid"]:
        if any(reason.startswith("A/A differs") for reason in c["reasons"]):
            return ("Two processes of the same variant do the same work, and yet one was clearly slower: something "
                    f"else used the machine, so a difference between variants proves nothing. {CLOSE}")
        if any(reason.startswith("the load generator was busy") for reason in c["reasons"]):
            return ("The model answers faster than requests can be sent. A larger --batch gives it more work per "
                    "request; session:VARIANT measures the model without a server.")
        return None
    low, high = c["ci95"]
    if not low or high is None:
        return None
    if c["metric"] == TYPICAL and log1p(c["floor"]) > MOSTLY * log(high / low) / 2:
        return (f"Processes of the same variant differ by themselves, so that a difference of {c['floor']:.1%} proves "
                "nothing. More processes of each average that out: --processes 4, or 8.")
    return (f"The times varied, so all that is known is that the ratio is between {low:.2f} and {high:.2f}. Measure "
            f"longer, with --repeat {4 * c['samples']} and a larger --max-time if that ended the run, or close other "
            "programs. That they are equal within a wider margin (--equal-within 3%) is shown sooner.")
