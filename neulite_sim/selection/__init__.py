"""Who trains: selectors choose among offers and learn from outcomes, one file per selector."""
