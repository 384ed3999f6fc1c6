"""Four devices that hold a logistic regression, for what is given from Python."""

FLEET = {
    "name": "four",
    "model": "logistic",
    "method": "fedavg",
    "population": {
        "devices": 4,
        "groups": [{"device": "raspberry-pi-4-4gb", "share": 1}],
        "available_memory": {"kind": "uniform", "low": "20MB", "high": "30MB"},
    },
    "selection": {"kind": "uniform", "devices_per_round": 2},
    "stop": {"rounds": 1},
    "backend": "inprocess",
}
