"""A job wrapper: its command line, logs, attempts, and the back-end that runs jobs on this machine."""
