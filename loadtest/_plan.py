"""The number of users that a load shape has at a given time."""

STEPS = 5
SPIKE_BASE = 0.1


def planned_users(shape: str, elapsed_s: float, run_s: float, users: int) -> int | None:
    """The number of users after `elapsed_s` of `run_s` seconds; None when the run is over."""
    done = elapsed_s / run_s
    if done >= 1:
        return None
    if shape == "steps":
        return max(1, round(users * (int(done * STEPS) + 1) / STEPS))
    if shape == "spike":
        return users if 0.4 <= done < 0.6 else max(1, round(users * SPIKE_BASE))
    return max(1, round(users * done))
