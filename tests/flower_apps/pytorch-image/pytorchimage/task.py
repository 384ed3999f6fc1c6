"""pytorch-image: model, data and training."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A small convolutional network for 8x8 images."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(16 * 2 * 2, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def load_data(partition_id, num_partitions):
    """Return the train and test loader of a partition of the digits."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    mine = torch.arange(len(labels))[partition_id::num_partitions]
    cut = int(0.8 * len(mine))
    torch.manual_seed(partition_id)
    train = DataLoader(TensorDataset(images[mine[:cut]], labels[mine[:cut]]), batch_size=16, shuffle=True)
    test = DataLoader(TensorDataset(images[mine[cut:]], labels[mine[cut:]]), batch_size=64)
    return train, test


def train(net, trainloader, epochs, lr):
    """Train the model and return the mean loss."""
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    running_loss = 0.0
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return running_loss / (len(trainloader) * epochs)


@torch.no_grad()
def test(net, testloader):
    """Return loss and accuracy."""
    net.eval()
    loss, correct, total = 0.0, 0, 0
    for images, labels in testloader:
        outputs = net(images)
        loss += F.cross_entropy(outputs, labels, reduction="sum").item()
        correct += (outputs.argmax(1) == labels).sum().item()
        total += len(labels)
    return loss / total, correct / total
