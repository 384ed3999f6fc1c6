"""numpy-client: PyTorch by the older NumPyClient, which also hands out the first parameters."""

from collections import OrderedDict

import torch
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Context
from torch import nn


def make_model():
    """Return the model."""
    return nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3))


class FlowerClient(NumPyClient):
    """Trains a small network."""

    def __init__(self, partition_id):
        self.net = make_model()
        own = torch.Generator().manual_seed(partition_id)
        self.features = torch.randn(64, 20, generator=own)
        self.labels = (self.features[:, 0] > 0).long()

    def get_parameters(self, config):
        """Return the parameters as arrays."""
        return [value.cpu().numpy() for value in self.net.state_dict().values()]

    def set_parameters(self, parameters):
        """Take parameters."""
        named = zip(self.net.state_dict().keys(), parameters, strict=True)
        self.net.load_state_dict(OrderedDict((key, torch.tensor(value)) for key, value in named))

    def fit(self, parameters, config):
        """Train on local data."""
        self.set_parameters(parameters)
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        for start in range(0, 64, 16):
            optimizer.zero_grad()
            outputs = self.net(self.features[start : start + 16])
            loss = nn.functional.cross_entropy(outputs, self.labels[start : start + 16])
            loss.backward()
            optimizer.step()
        return self.get_parameters({}), 64, {"train_loss": loss.item()}

    def evaluate(self, parameters, config):
        """Test on local data."""
        self.set_parameters(parameters)
        with torch.no_grad():
            outputs = self.net(self.features)
            loss = nn.functional.cross_entropy(outputs, self.labels).item()
        return loss, 64, {"accuracy": (outputs.argmax(1) == self.labels).float().mean().item()}


def client_fn(context: Context):
    """Return the client of a node."""
    return FlowerClient(context.node_config["partition-id"]).to_client()


app = ClientApp(client_fn)
