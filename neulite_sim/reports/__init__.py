"""What people look at: the console, summaries, tables and plots."""
