"""What holds for every test, however the run was started."""
import signal

# A shell starts its background jobs with SIGINT ignored, and every process of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
