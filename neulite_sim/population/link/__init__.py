"""What each device's link carries."""
