"""Collapsed stacks (a;b;c COUNT) as a flame graph in SVG: width is time, each box a function, its callers above it.

A thread that asks TensorFlow to run a graph mostly waits there: other threads do the work, and a sampler of Python's
threads does not see them. So each stack ends at Session.run, and what TensorFlow traced is drawn below it.
"""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

WIDTH, ROW, LEAST, DEEPEST = 1080, 17, 4, 60
STARTING = ("_find_and_load", "_load_unlocked", "exec_module", "Server.start ", "ModelStore._bring_up ")
# A frame of TensorFlow's own Python code for sessions: its native callees are often named wrongly, without symbols.
SESSION, RUN = "tensorflow/python/client/session.py", "Session.run"
# The functions in which an idle Python thread waits for work.
WAITING = ("PyThread_acquire_lock", "lock_PyThread_acquire_lock", "epoll_", "pthread_cond_", "sem_wait")


@dataclass
class Frame:
    """The number of samples in a function, including the functions that it called."""

    name: str
    samples: float = 0
    callees: dict[str, "Frame"] = field(default_factory=dict)


def tree(stacks: Iterable[str]) -> Frame:
    """The root of all stacks. Left out are stacks of the server's start and of threads that wait for work, and frames
    without a name.

    What TensorFlow's session does for a request is one frame, Session.run (decision 157).
    """
    root = Frame("all")
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        names = [name for name in stack.split(";") if not name.startswith("0x")]
        within = next((place for place, name in enumerate(names) if SESSION in name), None)
        if within is not None:
            names = [*names[:within], RUN]
        if not count.isdigit() or not names or names[-1].startswith(WAITING) or any(
                name.startswith(STARTING) for name in names):
            continue
        frame = root
        frame.samples += int(count)
        for name in names:
            frame = frame.callees.setdefault(name, Frame(name))
            frame.samples += int(count)
    return root


def with_operations(frame: Frame, scopes: Mapping[str, float]) -> None:  # decision 157
    """Divides every Session.run below the frame among the traced operations, by their scopes and share of the time."""
    if frame.name != RUN:
        for callee in frame.callees.values():
            with_operations(callee, scopes)
        return
    total = sum(scopes.values())
    for stack, us in scopes.items():
        below = frame
        for name in stack.split(";"):
            below = below.callees.setdefault(name, Frame(name))
            below.samples += frame.samples * us / total


def hottest(root: Frame, most: int = 10) -> list[tuple[str, int]]:
    """(function, samples that ended in it, without those in functions it called), most samples first."""
    own: dict[str, float] = {}
    pending = [root]
    while pending:
        frame = pending.pop()
        left = frame.samples - sum(callee.samples for callee in frame.callees.values())
        own[frame.name] = own.get(frame.name, 0) + left
        pending += frame.callees.values()
    return sorted(((name, round(count)) for name, count in own.items() if count and name != root.name),
                  key=lambda item: -item[1])[:most]


def svg(root: Frame) -> str:
    """Boxes narrower than 4 units, or more than 60 calls down, are left out; the full names are tooltips."""
    boxes: list[tuple[float, float, int, Frame]] = []
    pending = [(root, 0.0, 0)]
    while pending:
        frame, left, depth = pending.pop()
        width = frame.samples / max(root.samples, 1) * WIDTH
        if width < LEAST or depth > DEEPEST:
            continue
        boxes.append((left, width, depth, frame))
        for callee in sorted(frame.callees.values(), key=lambda callee: -callee.samples):
            pending.append((callee, left, depth + 1))
            left += callee.samples / max(root.samples, 1) * WIDTH
    height = (max((depth for _, _, depth, _ in boxes), default=0) + 1) * ROW
    parts = []
    for left, width, depth, frame in boxes:
        y, share = depth * ROW, frame.samples / max(root.samples, 1)
        shown = frame.name if len(frame.name) * 6.2 < width else frame.name[:max(0, int(width / 6.2) - 1)]
        parts.append(f'<g><title>{escape(frame.name)}: {share:.1%}</title><rect class="flame f{_warmth(frame.name)}" '
                     f'x="{left:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}" rx="2"/>'
                     f'<text class="flametext" x="{left + 3:.1f}" y="{y + 12}">{escape(shown)}</text></g>')
    return (f'<svg class="wide" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Flame graph">'
            f'{"".join(parts)}</svg>')


def _warmth(name: str) -> int:
    """Python frames in one colour, native ones in another, TensorFlow's in a third."""
    if "tensorflow" in name.lower() or "dnnl" in name or "Eigen" in name:
        return 2
    return 0 if ".py:" in name else 1 if name.endswith(")") else 2
