"""Keeps freed memory in the process, so that the buffers of the next large request are not made of new pages."""
import ctypes
import os

# Their numbers in malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# A request of 19 MB is held five times on its way. Larger blocks go back to the system at once.
_KEPT_BYTES, _LARGEST_BYTES = 128 << 20, 32 << 20


def keep_freed_memory() -> None:  # decision 215
    """Lets the C library keep up to 128 MB that were freed; nothing with another library, or if a variable sets it."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None or "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    set_option(_MMAP_THRESHOLD, _LARGEST_BYTES)
    set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
