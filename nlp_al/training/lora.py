"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) by peft: a model that trains about 1% of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from nlp_al.errors import UserError

if TYPE_CHECKING:
    from nlp_al.config import Lora


def with_adapters(model: nn.Module, settings: Lora) -> nn.Module:
    """The model with adapters on the linear layers of its encoder; its head is trained whole.

    Raises:
        UserError: peft is not installed, or no layer has a name in `target_modules`.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError('training.mode lora needs peft: pip install "nlp-al[lora]".') from error
    encoder = getattr(model, model.base_model_prefix, None)  # type: ignore[call-overload]
    prefix = "" if encoder is None else f"{model.base_model_prefix}."
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith(prefix)]
    wanted = settings.target_modules
    chosen = [name for name in layers if wanted is None or name.rsplit(".", 1)[-1] in wanted]
    if not chosen:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise UserError(f"training.lora.target_modules names no layer of the model; it has {', '.join(known)}.")
    outside = [] if encoder is None else [name for name, m in model.named_children() if m is not encoder]
    heads = [name for name in outside if any(True for _ in model.get_submodule(name).parameters())]
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=chosen,
        modules_to_save=heads or None,
    )
    adapted: nn.Module = peft.get_peft_model(model, config)
    return adapted


def merged(model: nn.Module) -> nn.Module:
    """The model with its adapters added to its weights: it loads with transformers alone."""
    whole: nn.Module = model.merge_and_unload()  # type: ignore[operator]
    return whole
