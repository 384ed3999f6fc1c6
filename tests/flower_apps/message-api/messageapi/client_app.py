"""message-api: a ClientApp that answers queries, and keeps something between rounds."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def values(context: Context):
    """Return the numbers that a node holds."""
    partition = context.node_config["partition-id"]
    return np.random.default_rng(partition).normal(loc=partition, size=50 + partition)


@app.query()
def query(msg: Message, context: Context) -> Message:
    """Tell how many numbers there are."""
    return Message(RecordDict({"count": MetricRecord({"count": len(values(context))})}), reply_to=msg)


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Take a step towards the mean of one's numbers; count how often that was done."""
    seen = context.state.metric_records.get("seen", MetricRecord({"times": 0}))
    context.state["seen"] = MetricRecord({"times": seen["times"] + 1})
    estimate = msg.content["arrays"]["estimate"].numpy()
    numbers = values(context)
    step = estimate + 0.5 * (numbers.mean() - estimate)
    metrics = MetricRecord(
        {"loss": float(np.mean((numbers - estimate) ** 2)), "num-examples": len(numbers), "times": seen["times"] + 1}
    )
    content = RecordDict({"arrays": ArrayRecord({"estimate": Array(step)}), "metrics": metrics})
    return Message(content, reply_to=msg)
