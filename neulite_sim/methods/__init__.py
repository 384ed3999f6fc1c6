"""Federated-learning methods: they make offers and tasks and digest updates, one file per method."""
