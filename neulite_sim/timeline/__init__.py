"""When things happen: flights as SimPy processes, and the protocols that dispatch and digest them."""
