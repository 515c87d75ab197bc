"""Gives freed memory back to the system: the C library keeps it, and that of freed weights is much."""
import ctypes


def give_back_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
