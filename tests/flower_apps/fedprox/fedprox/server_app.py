"""fedprox: the ServerApp."""

import random

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedProx

from fedprox.task import make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run FedProx."""
    torch.manual_seed(5)
    random.seed(5)
    strategy = FedProx(proximal_mu=context.run_config["proximal-mu"], fraction_train=0.5, min_train_nodes=2)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(make_model(context.run_config["hidden"]).state_dict()),
        num_rounds=context.run_config["num-server-rounds"],
    )
