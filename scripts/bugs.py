"""Bugs that `plant.py` plants: a line of the code, and one that somebody might have written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """One line that is wrong.

    Attributes:
        name: what is wrong.
        file: where, in the package.
        right: the line, or part of it, as it is.
        wrong: what stands there instead.
        tests: that are to catch it.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...] = ("tests/laws", "tests/losses")


BUGS = (
    Bug(
        "temperature squared is lost",
        "losses/logits.py",
        "return temperature**2 * kl_divergence(",
        "return kl_divergence(",
    ),
    Bug(
        "temperature on one side",
        "losses/logits.py",
        "log_q = F.log_softmax(logits / temperature, dim=-1)\n    divergence = (target",
        "log_q = F.log_softmax(logits, dim=-1)\n    divergence = (target",
    ),
    Bug(
        "mean over classes",
        "losses/logits.py",
        "divergence = (target * (_log(target, kind) - log_q)).sum(dim=-1)",
        "divergence = (target * (_log(target, kind) - log_q)).mean(dim=-1)",
    ),
    Bug(
        "reversed KL",
        "losses/logits.py",
        "divergence = (target * (_log(target, kind) - log_q)).sum(dim=-1)",
        "divergence = (log_q.exp() * (log_q - _log(target, kind))).sum(dim=-1)",
    ),
    Bug(
        "softmax over the batch",
        "losses/logits.py",
        "return torch.softmax(logits / temperature, dim=-1)",
        "return torch.softmax(logits / temperature, dim=0)",
    ),
    Bug(
        "weights over the batch",
        "weighting/latent.py",
        "return torch.softmax((beta_BD * v_D.flatten()) @ theta_TD.mT, dim=1)",
        "return torch.softmax((beta_BD * v_D.flatten()) @ theta_TD.mT, dim=0)",
    ),
    Bug(
        "weights that are not normalised",
        "weighting/posterior.py",
        "return score_BT / score_BT.sum(dim=1, keepdim=True)",
        "return score_BT",
    ),
    Bug(
        "weights that sum to T - 1",
        "weighting/base.py",
        "return (1 - share_BT) / (teachers - 1) if teachers > 1",
        "return (1 - share_BT) if teachers > 1",
    ),
    Bug(
        "sum over teachers in place of a mean",
        "objectives/logits.py",
        "return (given.weights_BT * each_BT).sum(dim=1)",
        "return each_BT.sum(dim=1)",
    ),
    Bug(
        "the student taught by itself",
        "objectives/logits.py",
        "targets_BTC = self._soft(teachers_BTC)",
        "targets_BTC = self._soft(logits_BC[:, None].expand_as(teachers_BTC))",
    ),
    Bug(
        "a hint without gradient",
        "objectives/hints.py",
        "regressed_BDHW = self.regressor(student_BDHW)",
        "regressed_BDHW = self.regressor(student_BDHW).detach()",
    ),
    Bug(
        "a regressor that is not trained",
        "objectives/hints.py",
        "self.requires_grad_(trained)",
        "self.requires_grad_(False)",
    ),
    Bug(
        "a gradient to the teacher's map",
        "objectives/hints.py",
        "teacher_BDHW = teacher_BDHW.detach()",
        "teacher_BDHW = teacher_BDHW * 1",
    ),
    Bug(
        "deviation with C in its denominator",
        "losses/logits.py",
        "(logits.shape[-1] - 1)",
        "logits.shape[-1]",
    ),
    Bug(
        "the target's own class left among the others",
        "losses/logits.py",
        "others = log_p.scatter(-1, true, -torch.inf)",
        "others = log_p.clone()",
    ),
    Bug(
        "correlation without the mean taken off",
        "losses/logits.py",
        "(values - values.mean(dim=dim, keepdim=True) for values",
        "(values - 0 * values.mean(dim=dim, keepdim=True) for values",
    ),
    Bug(
        "rows of similarities as they come",
        "losses/relation.py",
        "return F.normalize(products_BB, dim=1)",
        "return products_BB",
    ),
    Bug(
        "draws from the global generator",
        "weighting/latent.py",
        "torch.randn(width, generator=generator_for(name, seed))",
        "torch.randn(width)",
    ),
    Bug(
        "latent vectors by place, not by name",
        "weighting/latent.py",
        "generator=generator_for(name, seed)) for name in teachers]",
        "generator=generator_for(str(n), seed)) for n, _ in enumerate(teachers)]",
    ),
    Bug(
        "the feature's gradient not cut off",
        "weighting/posterior.py",
        'beta_BD = unit_length(pool(student.last_map_BDHW, "avg").detach())',
        'beta_BD = unit_length(pool(student.last_map_BDHW, "avg"))',
    ),
    Bug(
        "a teacher heard where it does not know the class",
        "objectives/objective.py",
        "return mask_and_renormalize(weights_BT, teachers.known_mask(labels_B))",
        "return weights_BT",
    ),
    Bug(
        "a mask that is ignored",
        "objectives/objective.py",
        "p_BTC = fill_unknown(p_BTC, student_BC, self.teachers.groups_TC)",
        "p_BTC = p_BTC + 0 * student_BC[:, None]",
    ),
    Bug(
        "a coarse answer taken as a fine one",
        "weighting/masking.py",
        "mass_BT1 * ratio_BTC * _by_group(teachers_BTC, groups_TC)",
        "mass_BT1 * teachers_BTC",
    ),
    Bug(
        "angles: mirror image not counted",
        "losses/angles.py",
        "return 1 if self.starts == self.ends else 2",
        "return 1",
    ),
    Bug(
        "angles: mirrored gradient dropped",
        "losses/angles.py",
        "        if self.times == 2:",
        "        if self.times == 3:",
    ),
    Bug(
        "angles: last stretch dropped",
        "losses/angles.py",
        "for start in range(0, count, step)]",
        "for start in range(0, max(1, count // step * step), step)]",
    ),
    Bug(
        "angles: recomputed cosines in another order",
        "losses/angles.py",
        "kept or [side.cosines(block) for side in ctx.sides]",
        "kept or [side.cosines(block) for side in ctx.sides[::-1]]",
    ),
    Bug(
        "merge_classes: temperature lost before the log",
        "losses/logits.py",
        "+ temperature * sums[..., firsts_G].log()",
        "+ sums[..., firsts_G].log()",
    ),
    Bug(
        "dist: batch of one too",
        "losses/logits.py",
        "    if len(logits) > 1:\n        loss =",
        "    if True:\n        loss =",
    ),
    Bug(
        "mix probs and logits exchanged",
        "objectives/logits.py",
        'if self.mix == "logits":',
        'if self.mix == "probs":',
    ),
    Bug(
        "alpha lost",
        "objectives/logits.py",
        "return self.scale / (classes if self.over_classes else 1) * self.loss(given)",
        "return 1 / (classes if self.over_classes else 1) * self.loss(given)",
    ),
    Bug(
        "label weight lost",
        "objectives/logits.py",
        "return self.scale * cross_entropy(",
        "return cross_entropy(",
    ),
    Bug(
        "share of the first teacher for all",
        "objectives/hints.py",
        "return given.weights_BT[:, place]",
        "return given.weights_BT[:, 0]",
    ),
    Bug(
        "shares ignored: equal ones",
        "objectives/hints.py",
        "return given.weights_BT[:, place]",
        "return given.weights_BT.new_ones(()) / given.weights_BT.shape[1]",
    ),
    Bug(
        "errors of the teachers in reverse",
        "objectives/feature_match.py",
        "return zip(targets, errors, strict=True)",
        "return zip(targets, errors[::-1], strict=True)",
    ),
    Bug(
        "layers meaned",
        "objectives/feature_match.py",
        "torch.stack(each).sum(dim=0)",
        "torch.stack(each).mean(dim=0)",
    ),
    Bug(
        "mean over the wrong axes",
        "objectives/feature_match.py",
        "return map_BDHW.mean(dim=(2, 3))",
        "return map_BDHW.mean(dim=(1, 2))",
    ),
    Bug(
        "work shared by its class",
        "objectives/objective.py",
        "if work not in self._done:\n"
        "            self._done[work] = work(self)\n"
        "        return self._done[work]",
        "if type(work) not in self._done:\n"
        "            self._done[type(work)] = work(self)\n"
        "        return self._done[type(work)]",
    ),
    Bug(
        "no warm-up",
        "objectives/objective.py",
        "term(given) * min(1.0, self.passed / term.warmup) if term.warmup else term(given)",
        "term(given)",
    ),
    Bug(
        "warm-up not handed on",
        "methods/soft_target.py",
        "over_classes=over_classes, warmup=self.warmup)",
        "over_classes=over_classes)",
    ),
    Bug(
        "shares by sorted name",
        "weighting/fixed.py",
        "return cls([shares.get(name, 0.0) for name in dims.teachers])",
        "return cls([shares.get(name, 0.0) for name in sorted(dims.teachers)])",
    ),
    Bug(
        "random: the same weights every step",
        "weighting/random.py",
        'generator_for(f"{name}/{step}", self.seed)',
        "generator_for(name, self.seed)",
    ),
    Bug(
        "entropy: sign lost",
        "weighting/entropy.py",
        "entropy_BT = -(log_p_BTC.exp() * log_p_BTC).sum(dim=-1)",
        "entropy_BT = (log_p_BTC.exp() * log_p_BTC).sum(dim=-1)",
    ),
    Bug(
        "confidence: sign of the errors",
        "weighting/confidence.py",
        "errors_BT = -of_true_class(",
        "errors_BT = of_true_class(",
    ),
    Bug(
        "gradient: at temperature 1",
        "weighting/gradient.py",
        "self.temperature,\n                known_BT",
        "1.0,\n                known_BT",
    ),
    Bug(
        "latent: seed ignored",
        "weighting/latent.py",
        "generator=generator_for(name, seed)) for name in teachers]",
        "generator=generator_for(name, 0)) for name in teachers]",
    ),
    Bug(
        "gate ignored",
        "weighting/posterior.py",
        "score_BT = score_BT if prior_BT is None else score_BT * prior_BT",
        "score_BT = score_BT",
    ),
    Bug(
        "gate: shrinkage pushes away",
        "weighting/posterior.py",
        "return fit_B - self.shrinkage",
        "return fit_B + self.shrinkage",
    ),
    Bug(
        "amtml: hints not divided by their number",
        "methods/amtml.py",
        "scale=self.hint_weight / count",
        "scale=self.hint_weight",
    ),
    Bug(
        "ca_mkd: soft target alone divided",
        "methods/ca_mkd.py",
        'for name in ("kd", "hints"):',
        'for name in ("kd",):',
    ),
    Bug(
        "rkd: weights exchanged",
        "methods/rkd.py",
        "(DistanceComparison, self.hint_weight * self.distance_weight),\n"
        '            "angle": (AngleComparison, self.hint_weight * self.angle_weight)',
        "(DistanceComparison, self.hint_weight * self.angle_weight),\n"
        '            "angle": (AngleComparison(pairs, dims), '
        "self.hint_weight * self.distance_weight)",
    ),
    Bug(
        "ca_mkd: classifiers by sorted name",
        "methods/ca_mkd.py",
        "heads = [dims.heads[name] for name in pairs]",
        "heads = [dims.heads[name] for name in sorted(pairs)]",
    ),
    Bug(
        "ca_mkd: hints by the answers' weights",
        "objectives/hints.py",
        "return self.scale * (weights_BT * torch.stack(errors, dim=1)).sum(dim=1)",
        "return self.scale * (given.weights_BT * torch.stack(errors, dim=1)).sum(dim=1)",
    ),
    Bug(
        "ca_mkd: classifiers' biases forgotten",
        "objectives/hints.py",
        "@ weight_CD.mT + bias_C)",
        "@ weight_CD.mT)",
    ),
    Bug(
        "attention: sum over positions",
        "losses/feature.py",
        "gap_BP.square().mean(dim=1)",
        "gap_BP.square().sum(dim=1)",
    ),
    Bug(
        "hint changes the teacher's map in place",
        "objectives/hints.py",
        "return hint(regressed_BDHW, teacher_BDHW)",
        "return hint(regressed_BDHW, teacher_BDHW.mul_(1.0001))",
    ),
    Bug(
        "similarity: backward one-sided",
        "losses/relation.py",
        "return (gradient_BB + gradient_BB.T) @ points_BP",
        "return 2 * gradient_BB @ points_BP",
    ),
    Bug(
        "dkd: alpha and beta exchanged",
        "losses/logits.py",
        "(alpha * binary + beta * others)",
        "(beta * binary + alpha * others)",
    ),
    Bug(
        "gradient: tolerance ignored",
        "weighting/gradient.py",
        "_least_norm(gradients @ gradients.T, tolerance)",
        "_least_norm(gradients @ gradients.T, 1.0)",
    ),
    Bug(
        "best is the worst",
        "methods/soft_target.py",
        "best = self.teacher or max(teachers",
        "best = self.teacher or min(teachers",
    ),
    Bug(
        "a layer is read after it was written over",
        "models/features/captured.py",
        "feature = returned if safe else _copy(returned)",
        "feature = returned",
    ),
    Bug(
        "a network changes the images of the next",
        "distiller.py",
        "else images_BDHW.clone()",
        "else images_BDHW",
    ),
    Bug(
        "a second derivative of the hand-written backward",
        "losses/feature.py",
        "if torch.is_grad_enabled():  # create_graph",
        "if False:",
    ),
    Bug(
        "a layer that is read is folded",
        "teachers/optimize.py",
        "and output.untyped_storage().data_ptr() not in kept",
        "and output.untyped_storage().data_ptr() not in set()",
        ("tests/teachers/test_prepare.py",),
    ),
    Bug(
        "class weights ignored",
        "objectives/logits.py",
        "logits_BC, labels_B, self.temperature, self.weights_C, self.smoothing",
        "logits_BC, labels_B, self.temperature, None, self.smoothing",
    ),
    Bug(
        "hooks stay on a user's module",
        "models/user_modules.py",
        "        close_hooks(module)",
        "        pass",
        (
            "tests/training/test_given_modules.py::"
            "test_hooks_do_not_gather_and_afterwards_everything_works",
        ),
    ),
    Bug(
        "the upper byte of 16 bits only",
        "data/images/pixel_scale.py",
        "clipped >> self.shift",
        "clipped >> 8",
        ("tests/data/test_picture_laws.py",),
    ),
    Bug(
        "every split has the class numbers of train",
        "data/targets.py",
        "if names == tuple(classes):",
        "if True:",
        ("tests/data/test_targets.py",),
    ),
    Bug(
        "the checkpoint of another run is taken",
        "training/checkpoint.py",
        "if known and found is not None and found not in known:",
        "if False:",
        ("tests/trajectories/test_resume.py::test_another_runs_checkpoint_is_refused",),
    ),
    Bug(
        "edited code is not noticed",
        "config/same_run.py",
        'return [f"{who} ({some_of(files, 4)})" for who, files in differ if files]',
        "return []",
        (
            "tests/cli_and_docs/test_changed_code.py::test_resume_refuses_changed_code_unless_requested",
        ),
    ),
)
