"""numpy-client: an older server, started by a workflow or by hand."""

from flwr.common import Context
from flwr.server import LegacyContext, ServerConfig
from flwr.server.compat import start_grid
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run FedAvg in one of two ways."""
    strategy = FedAvg(fraction_fit=0.5, min_available_clients=3)
    config = ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    if context.run_config["mode"] == "workflow":
        DefaultWorkflow()(grid, LegacyContext(context=context, config=config, strategy=strategy))
    else:
        start_grid(grid=grid, config=config, strategy=strategy)
