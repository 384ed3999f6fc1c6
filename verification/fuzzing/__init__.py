"""What `fuzz_scenarios.py` tries."""
