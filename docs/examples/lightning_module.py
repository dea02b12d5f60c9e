"""Distil in Lightning: only the module's loss and optimiser change."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import collegium as cg


class Model(lightning.LightningModule):
    def __init__(self, student, teachers, method):
        super().__init__()
        self.distiller = cg.Distiller(student, teachers, method, image_shape=(1, 8, 8))

    def on_train_epoch_start(self):
        self.distiller.start_epoch(self.current_epoch, self.trainer.max_epochs)

    def training_step(self, batch, batch_idx):
        outputs = self.distiller(*batch)
        self.log_dict({f"loss.{name}": term.mean() for name, term in outputs.terms.items()})
        return outputs.loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.distiller.parameter_groups(lr=0.05), momentum=0.9)


def train(student, teachers, method):
    trainer = lightning.Trainer(max_epochs=5, default_root_dir="runs/lightning")
    trainer.fit(Model(student, teachers, method), DataLoader(data, batch_size=64, shuffle=True))
    return student


images, labels = map(torch.tensor, load_digits(return_X_y=True))
data = TensorDataset(images.float().view(-1, 1, 8, 8) / 16, labels)
teacher = nn.Sequential(nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
student = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
train(student, {"wide": train(teacher, {}, cg.Vanilla())}, cg.AMTML())
