"""What people call things elsewhere: in other tools, in papers, in their own scripts. For hints only; nothing is taken.

One table for the keys of a scenario, by the whole path that is meant, and one for kinds, by field and name.
"""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, tuple[str, ...]] = {
    "name": ("title", "experiment", "experiment_name", "run_name"),
    "seed": ("random_seed", "rng_seed", "random_state"),
    "data": ("dataset", "datasets", "task"),
    "data.partition": ("split", "partitioner", "distribution", "non_iid", "noniid", "iid", "heterogeneity"),
    "data.partition.alpha": ("dirichlet_alpha", "dirichlet", "concentration", "beta"),
    "data.partition.shards_per_device": ("shards", "classes_per_client", "classes_per_device"),
    "data.root": ("path", "dir", "directory", "data_dir", "data_path", "folder", "data_root"),
    "data.image_size": ("size", "resolution", "img_size", "input_size"),
    "data.train_samples": ("samples", "num_samples", "train_size", "subset"),
    "data.samples": ("train_samples", "num_samples", "train_size"),
    "model": ("architecture", "arch", "net", "network", "backbone", "model_name"),
    "training": ("train", "client", "local", "local_training", "hyperparameters", "hparams", "optim_args"),
    "training.epochs": ("local_epochs", "num_epochs", "n_epochs", "epoch", "client_epochs", "local_ep"),
    "training.batch_size": ("batch", "batchsize", "bs", "local_batch_size", "local_bs", "train_batch_size"),
    "training.learning_rate": ("lr", "eta", "step_size", "client_lr", "local_lr", "base_lr", "rate"),
    "training.learning_rate_schedule": ("lr_schedule", "lr_scheduler", "scheduler", "lr_decay", "decay_schedule"),
    "training.optimizer": ("optim", "opt", "optimiser", "client_optimizer"),
    "training.weight_decay": ("wd", "l2", "decay", "regularization"),
    "training.clip_norm": ("clip", "grad_clip", "gradient_clipping", "max_grad_norm", "max_norm"),
    "training.precision": ("dtype", "amp", "fp16", "bf16", "mixed_precision", "half"),
    "training.micro_batch_size": ("micro_batch", "microbatch", "accumulation_steps", "gradient_accumulation"),
    "training.checkpointing": ("gradient_checkpointing", "activation_checkpointing", "recompute", "remat"),
    "training.norm": ("normalization", "normalisation", "norm_layer", "batch_norm", "group_norm"),
    "population": ("fleet", "clients", "devices_section", "federation"),
    "population.devices": (
        "clients",
        "num_clients",
        "n_clients",
        "num_devices",
        "n_devices",
        "num_users",
        "n_users",
        "users",
        "total_clients",
        "fleet_size",
        "num_parties",
        "nodes",
        "count",
    ),
    "population.groups": ("device_groups", "device_types", "classes_of_devices", "tiers_of_devices"),
    "population.hardware": ("boards", "device_file", "hardware_file"),
    "population.available_memory": ("memory", "ram", "mem", "memory_budget", "budget", "gpu_memory", "memory_gb"),
    "population.available_memory.low": ("min", "minimum", "smallest", "from", "lower", "least"),
    "population.available_memory.high": ("max", "maximum", "largest", "to", "upper", "most"),
    "population.available_memory.median": ("mean", "average", "mu"),
    "population.available_memory.sigma": ("std", "deviation", "stddev", "spread"),
    "population.available_memory.values": ("value", "list", "sizes"),
    "population.groups.device": ("type", "hardware", "board", "class", "device_class", "kind", "name"),
    "population.groups.share": ("count", "fraction", "weight", "number", "percent", "ratio", "proportion", "devices"),
    "population.availability.mean_on": ("on", "online", "mean_online", "up", "on_time"),
    "population.availability.mean_off": ("off", "offline", "mean_offline", "down", "off_time"),
    "population.availability.path": ("file", "csv", "filename", "trace"),
    "population.memory_motion.path": ("file", "csv", "filename", "trace"),
    "population.memory_motion": ("memory_trace", "memory_dynamics", "contention"),
    "population.availability": ("online", "connectivity", "presence", "uptime"),
    "population.link": ("bandwidth", "links", "connection", "internet", "network_speed"),
    "population.link.downlink": ("download", "down", "bandwidth", "downstream", "rate"),
    "population.link.uplink": ("upload", "up", "upstream"),
    "population.link.latency": ("delay", "rtt", "ping"),
    "population.speed_jitter": ("jitter", "speed_noise", "compute_jitter"),
    "churn": ("failures", "faults", "dropouts"),
    "churn.failures_per_hour": ("failure_rate", "dropout_rate", "drop_rate", "dropout", "failures", "crash_rate"),
    "churn.timeout": ("client_timeout", "flight_timeout"),
    "churn.battery": ("energy", "batteries"),
    "method": ("algorithm", "strategy", "aggregator", "aggregation", "fl_method"),
    "method.proximal_mu": ("mu", "prox_mu", "proximal"),
    "selection": ("sampler", "sampling", "selector", "client_selection", "client_sampling"),
    "selection.devices_per_round": (
        "clients_per_round",
        "num_clients_per_round",
        "per_round",
        "sample_size",
        "cohort_size",
        "num_selected",
        "k",
        "fraction",
        "fraction_fit",
        "client_fraction",
        "participation",
        "participation_rate",
        "sampling_rate",
        "frac",
        "min_fit_clients",
        "min_available_clients",
        "selected",
    ),
    "protocol": ("mode", "server_mode", "synchronization", "aggregation_mode", "async", "asynchronous"),
    "protocol.maximum_wait": (
        "deadline",
        "round_deadline",
        "max_wait",
        "timeout",
        "time_out",
        "round_timeout",
        "time_limit",
        "wait",
    ),
    "protocol.minimum_wait": ("min_wait",),
    "protocol.over_selection": (
        "over_commit",
        "overcommit",
        "overcommitment",
        "over_provision",
        "overselection",
        "oversampling",
    ),
    "protocol.minimum_updates": ("min_updates", "min_clients", "minimum_clients", "quorum"),
    "protocol.buffer_size": ("buffer", "aggregation_goal"),
    "protocol.concurrency": ("max_concurrency", "active_clients", "in_flight"),
    "evaluation": ("eval", "test", "validation", "testing"),
    "evaluation.every_rounds": (
        "every",
        "eval_every",
        "evaluate_every",
        "test_every",
        "eval_interval",
        "interval",
        "test_interval",
        "frequency",
        "eval_freq",
        "period",
    ),
    "evaluation.batch_size": ("test_batch_size", "eval_batch_size"),
    "evaluation.targets": ("target_accuracies", "accuracies", "thresholds"),
    "checkpoint": ("checkpoints", "saving", "save"),
    "checkpoint.every_rounds": ("save_every", "checkpoint_every", "save_interval", "checkpoint_interval"),
    "stop": ("termination", "end", "until"),
    "stop.rounds": (
        "num_rounds",
        "n_rounds",
        "max_rounds",
        "total_rounds",
        "global_rounds",
        "communication_rounds",
        "comm_rounds",
        "comm_round",
        "global_epochs",
        "iterations",
    ),
    "stop.target_accuracy": ("target", "target_acc", "accuracy"),
    "stop.virtual_time": ("time", "max_time", "duration", "time_budget", "hours", "simulated_time", "deadline"),
    "server.downlink": ("bandwidth", "server_bandwidth"),
    "workload": ("charged", "cost_model"),
    "proxy": ("surrogate_model", "scaled_down"),
    "proxy.width": ("width_multiplier", "scale"),
    "backend": ("engine", "runtime", "executor", "simulation", "resources"),
    "backend.workers": (
        "num_workers",
        "n_workers",
        "n_jobs",
        "jobs",
        "processes",
        "num_cpus",
        "cpus",
        "parallel",
        "actors",
    ),
    "backend.threads_per_worker": ("threads", "num_threads", "torch_threads", "cpus_per_worker"),
    "backend.device": ("gpu", "cuda", "use_gpu", "use_cuda", "accelerator"),
    "backend.gpus_per_worker": ("gpus", "num_gpus", "gpu_fraction", "gpu", "use_gpu"),
    "--out on the command line": (
        "out",
        "output",
        "output_dir",
        "out_dir",
        "results",
        "results_dir",
        "log_dir",
        "logdir",
        "save_dir",
    ),
}
"""By the path of a key, what else it is called."""

KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "data": {
        "synthetic": ("random", "fake", "dummy"),
        "digits": ("mnist", "sklearn"),
        "image-folder": ("folder", "images", "imagefolder"),
        "fashion-mnist": ("fmnist",),
    },
    "partition": {
        "dirichlet": ("non-iid", "noniid", "non_iid", "lda", "label-skew"),
        "iid": ("uniform", "random", "equal"),
        "natural": ("writers", "users", "by-user"),
        "shards": ("pathological", "classes"),
    },
    "model": {
        "cnn": ("convnet", "conv"),
        "logistic": ("lr", "linear", "softmax", "logreg"),
        "vgg11_bn": ("vgg", "vgg11", "vgg16"),
        "resnet18": ("resnet",),
    },
    "method": {
        "fedavg": ("avg", "fedprox", "prox", "vanilla", "baseline"),
        "heterofl": ("hetero",),
        "fedrolex": ("rolex",),
        "allsmall": ("small", "all-small"),
        "exclusivefl": ("exclusive",),
    },
    "selection": {"uniform": ("random", "all", "uniform-random")},
    "protocol": {
        "synchronous": ("sync", "fedavg"),
        "fedasync": ("async", "asynchronous"),
        "fedbuff": ("buffered", "semi-async"),
        "deadline": ("timeout", "over-selection", "overselection"),
    },
    "backend": {
        "inprocess": ("local", "sequential", "serial", "cpu", "gpu", "cuda", "torch", "in-process", "single"),
        "ray": ("parallel", "distributed", "cluster", "multiprocessing"),
        "dry-run": ("dry", "none", "dryrun", "simulate"),
    },
    "available_memory": {
        "lognormal": ("normal", "gaussian", "log-normal"),
        "explicit": ("list", "values", "constant", "fixed"),
        "choice": ("categorical", "discrete"),
        "installed": ("total", "physical", "hardware"),
        "uniform": ("range",),
    },
    "memory_motion": {"constant": ("none", "static", "fixed"), "walk": ("random-walk", "randomwalk", "ou")},
    "availability": {
        "always": ("on", "online", "none"),
        "markov": ("random", "on-off", "onoff"),
        "trace": ("file", "csv"),
        "diurnal": ("daily", "day-night", "night", "sine"),
    },
}
"""By what a kind is named for and by the kind, what else it is called."""


EXAMPLES: Mapping[str, str] = {
    "available_memory": "{kind: uniform, low: 512MB, high: 2GB}",
    "availability": "{kind: markov, mean_on: 2h, mean_off: 1h}",
    "memory_motion": "{kind: walk, step: 0.1, every: 10min}",
    "partition": "{kind: dirichlet, alpha: 0.5}",
    "model": "torchvision:NAME for any classifier of torchvision",
}
"""By what a kind is named for, what may be written where a name alone does not tell enough."""


def plain(word: str) -> str:
    """Return a word as the tables have it: small letters, underscores."""
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def meant_by(word: str) -> list[str]:
    """Return the paths of the keys that are also called `word`, in the order of the table."""
    return [path for path, words in KEYS.items() if plain(word) in words]


def kinds_meant_by(group_field: str, word: str) -> list[str]:
    """Return the kinds of a field that are also called `word`."""
    known = KINDS.get(group_field, {})
    return [kind for kind, words in known.items() if plain(word) in map(plain, words)]
