"""Distil with the Trainer of transformers: a model whose `loss` is the distiller's."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import collegium as cg


class Taught(nn.Module):
    def __init__(self, student, teachers, method):
        super().__init__()
        self.distiller = cg.Distiller(student, teachers, method, image_shape=(1, 8, 8))

    def forward(self, pixel_values, labels):
        taught = self.distiller(pixel_values, labels)
        return {"loss": taught.loss, "logits": taught.logits_BC}


class Clock(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model, **kwargs):
        model.distiller.start_epoch(int(state.epoch), int(args.num_train_epochs))


def learn(student, teachers, method):
    model = Taught(student, teachers, method)
    optimizer = torch.optim.AdamW(model.distiller.parameter_groups(lr=0.003))
    how = TrainingArguments("runs/trainer", num_train_epochs=5, report_to="none")
    Trainer(model, how, None, data, callbacks=[Clock()], optimizers=(optimizer, None)).train()
    return student


images, labels = map(torch.tensor, load_digits(return_X_y=True))
pairs = zip(images.float().view(-1, 1, 8, 8) / 16, labels, strict=True)
data = [{"pixel_values": image, "labels": label} for image, label in pairs]
teacher = nn.Sequential(nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
student = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
learn(student, {"wide": learn(teacher, {}, cg.Vanilla())}, cg.AMTML())
