"""What `deployment.py` is made of: its fleets, what is fitted, the processes, and both runs side by side."""
