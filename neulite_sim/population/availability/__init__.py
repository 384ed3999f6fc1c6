"""When each device is online, its battery included."""
