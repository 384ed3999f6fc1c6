"""custom-strategy: a strategy of its own, which lowers the learning rate and sums in the order of node ids."""

import random

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from customstrategy.task import make_model

app = ServerApp()


class DecayingFedAvg(FedAvg):
    """FedAvg with a learning rate that is halved every second round."""

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid):
        """Lower the learning rate."""
        if server_round % 2 == 0:
            config["lr"] = config["lr"] / 2
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: list[Message]):
        """Aggregate in an order that does not depend on who was first."""
        by_size = sorted(
            replies, key=lambda reply: reply.content["metrics"]["num-examples"] if reply.has_content() else -1
        )
        return super().aggregate_train(server_round, by_size)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the strategy."""
    torch.manual_seed(3)
    random.seed(3)
    DecayingFedAvg(fraction_train=1.0, fraction_evaluate=0.5, min_available_nodes=2).start(
        grid=grid,
        initial_arrays=ArrayRecord(make_model().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["lr"]}),
        num_rounds=context.run_config["num-server-rounds"],
    )
