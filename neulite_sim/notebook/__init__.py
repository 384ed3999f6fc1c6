"""What a notebook shows of a run: progress while it goes on, a card with a chart when it is over, a figure."""
