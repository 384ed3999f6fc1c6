"""A federation of processes that talk over TCP, slowed down to stated speeds; used by `verification/deployed`."""
