"""sklearn-tabular: the ServerApp, by the older server_fn."""

from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

from sklearntabular.task import get_model, get_model_params, set_initial_params


def weighted_average(metrics):
    """Return the accuracy over all clients."""
    total = sum(num for num, _ in metrics)
    return {"accuracy": sum(num * found["accuracy"] for num, found in metrics) / total}


def server_fn(context: Context):
    """Return what the server consists of."""
    model = get_model(context.run_config["penalty"], context.run_config["local-epochs"])
    set_initial_params(model)
    strategy = FedAvg(
        min_available_clients=2,
        initial_parameters=ndarrays_to_parameters(get_model_params(model)),
        evaluate_metrics_aggregation_fn=weighted_average,
    )
    return ServerAppComponents(
        strategy=strategy, config=ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    )


app = ServerApp(server_fn=server_fn)
