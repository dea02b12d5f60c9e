"""Distil with the Trainer of transformers: its model returns the loss of a distiller."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import collegium as cg


class Model(nn.Module):
    def __init__(self, student, teachers, method):
        super().__init__()
        self.distiller = cg.Distiller(student, teachers, method, image_shape=(1, 8, 8))

    def forward(self, pixel_values, labels):
        outputs = self.distiller(pixel_values, labels)
        return {"loss": outputs.loss, "logits": outputs.logits_BC}


class Epochs(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model, **kwargs):
        model.distiller.start_epoch(int(state.epoch), int(args.num_train_epochs))


def train(student, teachers, method):
    model = Model(student, teachers, method)
    optimizer = torch.optim.AdamW(model.distiller.parameter_groups(lr=0.003))
    args = TrainingArguments("runs/trainer", num_train_epochs=5, report_to="none")
    Trainer(model, args, None, data, callbacks=[Epochs()], optimizers=(optimizer, None)).train()
    return student


images, labels = map(torch.tensor, load_digits(return_X_y=True))
pairs = zip(images.float().view(-1, 1, 8, 8) / 16, labels, strict=True)
data = [{"pixel_values": image, "labels": label} for image, label in pairs]
teacher = nn.Sequential(nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
student = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
train(student, {"wide": train(teacher, {}, cg.Vanilla())}, cg.AMTML())
