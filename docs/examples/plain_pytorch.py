"""Distil in a loop of your own, in plain PyTorch: AMTML-KD from two teachers."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import collegium as cg

EPOCHS = 10


def network(width):
    """Any module that returns logits; it needs no code for distillation."""
    convolutions = [nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


def train(student, teachers, method):
    """Your loop; distillation adds only the lines with `distiller`."""
    distiller = cg.Distiller(student, teachers, method, image_shape=(1, 8, 8))
    optimizer = torch.optim.SGD(distiller.parameter_groups(lr=0.05), momentum=0.9)
    for epoch in range(EPOCHS):
        distiller.start_epoch(epoch, EPOCHS)
        for batch in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            distiller(images[batch], labels[batch]).loss.backward()
            optimizer.step()
    correct = student(test_images).argmax(dim=1) == test_labels
    print(f"{method.slug}: {100 * correct.float().mean():.1f} %")
    return student


torch.manual_seed(0)
digits = load_digits()
images, test_images = torch.tensor(digits.images).float().div(16)[:, None].tensor_split([1400])
labels, test_labels = torch.tensor(digits.target).tensor_split([1400])
teachers = {f"width {w}": train(network(w), {}, cg.Vanilla()) for w in (16, 32)}
train(network(4), {}, cg.Vanilla())  # the student alone
student = train(network(4), teachers, cg.AMTML())
