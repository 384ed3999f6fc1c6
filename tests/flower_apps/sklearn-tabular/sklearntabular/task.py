"""sklearn-tabular: model and data."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

NUM_FEATURES = 30


def load_data(partition_id: int, num_partitions: int):
    """Return training and test data of a partition."""
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    X, y = X[partition_id::num_partitions], y[partition_id::num_partitions]
    cut = int(0.8 * len(X))
    return X[:cut], X[cut:], y[:cut], y[cut:]


def get_model(penalty: str, local_epochs: int):
    """Return a model that goes on from where it was."""
    return LogisticRegression(C=1.0 if penalty == "l2" else np.inf, max_iter=local_epochs, warm_start=True)


def get_model_params(model):
    """Return the parameters of a model."""
    return [model.coef_, model.intercept_]


def set_model_params(model, params):
    """Set the parameters of a model."""
    model.coef_, model.intercept_ = params
    return model


def set_initial_params(model):
    """Set parameters to zero, since scikit-learn has none before fitting."""
    model.classes_ = np.array([0, 1])
    model.coef_ = np.zeros((1, NUM_FEATURES))
    model.intercept_ = np.zeros((1,))
