"""message-api: a ServerApp without a strategy: it pushes messages, and pulls replies as they come."""

import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Estimate a mean over all nodes."""
    nodes = list(grid.get_node_ids())
    queries = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    counts = {
        reply.metadata.src_node_id: reply.content["count"]["count"]
        for reply in grid.send_and_receive(queries, timeout=context.run_config["wait"])
        if not reply.has_error()
    }
    print("nodes that answered", len(counts))
    estimate = np.zeros(1)
    for server_round in range(1, context.run_config["num-server-rounds"] + 1):
        content = RecordDict(
            {
                "arrays": ArrayRecord({"estimate": Array(estimate)}),
                "config": ConfigRecord({"server-round": server_round}),
            }
        )
        messages = [Message(content, node, MessageType.TRAIN) for node in grid.get_node_ids()]
        pending = set(grid.push_messages(messages))
        replies = []
        while pending:
            time.sleep(2)
            found = list(grid.pull_messages(pending))
            pending -= {reply.metadata.reply_to_message_id for reply in found}
            replies += [reply for reply in found if reply.has_content()]
        replies.sort(key=lambda reply: reply.content["metrics"]["num-examples"])
        if replies:
            total = sum(reply.content["metrics"]["num-examples"] for reply in replies)
            estimate = sum(
                reply.content["arrays"]["estimate"].numpy() * reply.content["metrics"]["num-examples"] / total
                for reply in replies
            )
        print("estimate", estimate)
