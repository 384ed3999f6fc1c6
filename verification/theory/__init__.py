"""What `queueing.py` compares with."""
