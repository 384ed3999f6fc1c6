"""What `time_model.py` reads: the networks of the public measurements, and the rows themselves."""
