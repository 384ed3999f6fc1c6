"""custom-strategy: the ClientApp."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.nn.functional import cross_entropy

from customstrategy.task import load_data, make_model

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Take one pass in small batches."""
    model = make_model()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    features, labels = load_data(context.node_config["partition-id"])
    optimizer = torch.optim.SGD(model.parameters(), lr=msg.content["config"]["lr"])
    for start in range(0, len(labels), 8):
        optimizer.zero_grad()
        loss = cross_entropy(model(features[start : start + 8]), labels[start : start + 8])
        loss.backward()
        optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test on local data."""
    model = make_model()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    features, labels = load_data(context.node_config["partition-id"])
    with torch.no_grad():
        logits = model(features)
    metrics = MetricRecord(
        {
            "eval_loss": cross_entropy(logits, labels).item(),
            "eval_acc": (logits.argmax(1) == labels).float().mean().item(),
            "num-examples": len(labels),
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
