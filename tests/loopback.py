"""Two workers on this machine: their addresses, and how often they are started again."""

import socket

# What is said where a machine is so busy that TensorFlow takes a slow worker for a dead one.
LOST = ("UnavailableError", "AbortedError", "have lost each other", "heartbeat")
ATTEMPTS = 3


def two_addresses():
    """ "host:port,host:port" of free ports."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other))
