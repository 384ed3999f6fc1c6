"""A cluster of Ray nodes on this machine, each with an object store of its own, and what Ray itself says of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster

# Found dead within two seconds in place of half a minute.
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@contextmanager
def nodes(*processors: int) -> Iterator[Cluster]:
    """Within, there is a cluster of nodes with so many processors each, and this process is at the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray puts its workers behind everything else that the machine does, such as other tests.
        patch.setenv("RAY_worker_niceness", "0")
        first = {"num_cpus": processors[0], "include_dashboard": False, "_system_config": QUICK}
        cluster = Cluster(initialize_head=True, head_node_args=first)
        try:
            for count in processors[1:]:
                cluster.add_node(num_cpus=count)
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def created_bytes(node: str) -> int:
    """Return the bytes of all objects that ever came into a node's store, as its raylet counts them."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc

    (found,) = [item for item in ray.nodes() if item["NodeID"] == node]
    channel = init_grpc_channel(f"{found['NodeManagerAddress']}:{found['NodeManagerPort']}", options=[])
    stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
    reply = stub.GetNodeStats(node_manager_pb2.GetNodeStatsRequest(include_memory_info=False), timeout=20)
    return int(reply.store_stats.cumulative_created_bytes)
