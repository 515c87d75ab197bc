"""What "cannot tell" means for one comparison, and what to do next, in a sentence for those who read it first."""
from benchmark.verdicts.comparison import PRECISE
from benchmark.verdicts.records import ComparisonRecord

# Two processes that do the same work are this far apart on a quiet machine, at most.
QUIET = 0.02
CLOSE = "Close other programs, wait until the machine is idle, and run it again."


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
    if low is None or high is None:
        return None
    if c["floor"] > QUIET:
        return (f"Two processes of the same variant were {c['floor']:.1%} apart, so a difference between variants must "
                f"be larger than that to prove anything. {CLOSE} If it cannot be idle, more requests (--repeat "
                f"{4 * c['samples']}) and more time (--max-time) help.")
    if high - low > 2 * PRECISE * c["ratio"]:
        return (f"The times varied, so all that is known is that the ratio is between {low:.2f} and {high:.2f}. "
                f"Measure more requests: --repeat {4 * c['samples']}, with a larger --max-time if that ended the run.")
    return (f"Any difference between {c['baseline']} and {c['candidate']} is small: this run would have shown one of "
            f"{c['least_effect']:.1%}. To look for a smaller one, measure more requests: --repeat {4 * c['samples']}."
            if c["least_effect"] is not None else None)
