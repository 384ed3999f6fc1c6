"""fedprox: the ClientApp, whose loss keeps near the global model."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedprox.task import load_data, make_model

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train with a proximal term."""
    model = make_model(context.run_config["hidden"])
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    features, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    global_params = [parameter.detach().clone() for parameter in model.parameters()]
    mu = msg.content["config"]["proximal-mu"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(context.node_config["partition-id"])
    for batch in torch.randperm(len(labels)).split(16):
        if len(batch) < 2:
            continue
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features[batch]), labels[batch])
        proximal = sum((own - other).norm(2) ** 2 for own, other in zip(model.parameters(), global_params, strict=True))
        (loss + mu / 2 * proximal).backward()
        optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test on local data."""
    model = make_model(context.run_config["hidden"])
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    model.eval()
    features, labels = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    with torch.no_grad():
        logits = model(features)
    metrics = MetricRecord(
        {
            "eval_loss": nn.functional.cross_entropy(logits, labels).item(),
            "eval_acc": (logits.argmax(1) == labels).float().mean().item(),
            "num-examples": len(labels),
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
