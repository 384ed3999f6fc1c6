"""When things happen: flights as events of SimPy, and the protocols that dispatch and digest them."""
