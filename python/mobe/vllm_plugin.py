"""vLLM serves a folder in mobe's native format, with `--load-format mobe`: what is factored or
quantised is built and unpacked as it is read, and goes on to vLLM's own class of the model
under the original's names. vLLM then splits and runs what it knows; its experts are as large as
the original's. docs/interop.md of mobe says how to use it."""

import dataclasses

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
from vllm.logger import init_logger
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from .modeling_mobe import Experts, Matrix, MobeForCausalLM, Stored

logger = init_logger("vllm.mobe")  # vLLM shows what is below "vllm"


def empty_model(path, config_class, hub):
    """The model as modeling_mobe.py has it, without numbers."""
    base = MODEL_FOR_CAUSAL_LM_MAPPING.get(config_class, None)
    if base is None:
        raise ValueError(
            f"{path}: transformers has no class for it; `mobe reconstruct` writes a plain model"
        )
    config = config_class.from_pretrained(path, **hub)  # vLLM has changed what it read
    own = {"stored": Stored(path, config, config, hub)}
    with torch.device("meta"):
        return type("EmptyModel", (MobeForCausalLM, base), own)(config)


def units_of(model):
    """By a tensor's name: what is built of it, and the names of all that this is built of."""
    units = {}
    for path, module in model.named_modules():
        if not isinstance(module, (Experts, Matrix)):
            continue
        own = (name for name, _ in module.named_parameters() if not name.endswith("bias"))
        names = {f"{path}.{name}" for name in own}
        if isinstance(module, Experts):
            shared = [name for name in module.block[0]._parameters if name[:2] in ("B_", "W_")]
            names.update(path.removesuffix("experts") + name for name in shared)
        for name in names:  # a layer's experts come before the matrices in them
            units.setdefault(name, (module, names))
    return units


def build(unit):
    """Gives one matrix after the other with its name in the original, and keeps none."""
    matrices = [(unit, None)]
    if isinstance(unit, Experts):
        experts = unit.mixes(range(len(unit)), torch.float32)
        matrices = (pair for e, *mixes in experts for pair in zip(unit[e].values(), mixes))
    for matrix, mix in matrices:
        matrix.build(mix)
        yield matrix.name, matrix.weight.data
        matrix._parameters.clear()
    if isinstance(unit, Experts):
        unit.block[0]._parameters.clear()


@register_model_loader("mobe")
class Loader(DefaultModelLoader):
    def __init__(self, load_config):
        super().__init__(dataclasses.replace(load_config, load_format="auto"))

    def _init_ep_weight_filter(self, model_config):
        """All tensors of experts are read, whichever rank they are for: they belong together."""

    def load_model(self, vllm_config, model_config, prefix=""):
        if getattr(model_config.hf_config, "quantization_config", None):  # FP8, which is unpacked
            vllm_config.quant_config = model_config.quantization = None
        return super().load_model(vllm_config, model_config, prefix)

    def get_all_weights(self, model_config, model):
        path, device = model_config.model, next(model.parameters()).device
        hub = {"revision": model_config.revision, "cache_dir": self.load_config.download_dir}
        empty = empty_model(path, type(model_config.hf_config), hub)
        units, stored, built = units_of(empty), 0, 0
        names = {in_file: name for name, (*_, in_file) in empty.stored.tensors.items()}
        for in_file, tensor in super().get_all_weights(model_config, model):
            if (name := names.get(in_file)) not in units:
                yield in_file, tensor
                continue
            unit, missing = units[name]
            missing.remove(name)
            holder, _, parameter = name.rpartition(".")
            holder = empty.get_submodule(holder)
            holder._parameters[parameter] = nn.Parameter(tensor.to(device), requires_grad=False)
            holder.name = in_file.rpartition(".weight")[0] + ".weight"  # of all of its planes
            stored += tensor.nbytes if isinstance(unit, Experts) else 0
            for original, weight in () if missing else build(unit):
                built += weight.nbytes if isinstance(unit, Experts) else 0
                yield original, weight
        if missing := sorted(name for name, (_, names) in units.items() if name in names):
            raise ValueError(f"{path}: lacks {len(missing)} tensors, such as {missing[0]}")
        logger.info(
            "experts of %s: %s bytes built, all ranks together; %s bytes in the folder",
            path,
            f"{built:,}",
            f"{stored:,}",
        )


def register():
    """vLLM's entry point. The loader was registered when this file was imported."""
