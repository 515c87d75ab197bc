"""How many users a shape wants, and when: a pure function of the time."""

STEPS = 5
SPIKE_BASE = 0.1


def planned_users(shape: str, elapsed_s: float, run_s: float, users: int) -> int | None:
    """How many users there should be after `elapsed_s` of `run_s`; None when the run is over."""
    done = elapsed_s / run_s
    if done >= 1:
        return None
    if shape == "steps":
        return max(1, round(users * (int(done * STEPS) + 1) / STEPS))
    if shape == "spike":
        return users if 0.4 <= done < 0.6 else max(1, round(users * SPIKE_BASE))
    return max(1, round(users * done))
