"""sklearn-tabular: the ClientApp, by the older NumPyClient."""

import warnings

from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Context
from sklearn.metrics import log_loss

from sklearntabular.task import get_model, get_model_params, load_data, set_initial_params, set_model_params


class FlowerClient(NumPyClient):
    """Trains a logistic regression."""

    def __init__(self, model, data):
        self.model = model
        self.X_train, self.X_test, self.y_train, self.y_test = data

    def fit(self, parameters, config):
        """Fit the model to local data."""
        set_model_params(self.model, parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.fit(self.X_train, self.y_train)
        return get_model_params(self.model), len(self.X_train), {}

    def evaluate(self, parameters, config):
        """Evaluate the model on local data."""
        set_model_params(self.model, parameters)
        loss = log_loss(self.y_test, self.model.predict_proba(self.X_test), labels=[0, 1])
        return loss, len(self.X_test), {"accuracy": self.model.score(self.X_test, self.y_test)}


def client_fn(context: Context):
    """Return the client of a node."""
    model = get_model(context.run_config["penalty"], context.run_config["local-epochs"])
    set_initial_params(model)
    data = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    return FlowerClient(model, data).to_client()


app = ClientApp(client_fn=client_fn)
