"""Loads mobe's native folders (docs/interop.md) in transformers 4.57 and 5: takes transformers' own
class of the model and replaces the experts by A f(sum_b alpha_b B_b), of bases B that they share."""

import copy
import re
import sys
from functools import partial, reduce
from itertools import groupby, product, repeat

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig
from transformers.activations import ACT2FN
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.generation import GenerationMixin
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

ALIASES = {"kimi_k2": "deepseek_v3"}  # what transformers knows by another name
KINDS = {"gate": ("gate_proj", "w1"), "up": ("up_proj", "w3"), "down": ("down_proj", "w2")}
EXPERTS = {"experts", "input_linear", "output_linear"}  # the last two of Granite in transformers 4
UNLIKE = ("dbrx", "deepseek_v4", "gemma4", "gpt_oss", "hy_v4", "llama4")  # clamped, no silu, ...
ACTIVATIONS = {"silu": F.silu, "tanh": torch.tanh, "identity": lambda x: x}
# X as it is, in FP8 with X_scale_inv, or packed as X.int8 and X.int8.scales. None: as it is loaded.
PLANES = {"": None, "_scale_inv": torch.float32, "_scale": torch.float32}
PLANES |= {f"_int{b}{s}": None if s else torch.uint8 for b in range(2, 9) for s in ("", "_scales")}
HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


# What a folder holds: dtype, shape and name in the files of each tensor, as their headers tell.
class Stored:
    def __init__(self, path, config, text, hub):  # `text`: config's part, of a model that sees, too
        mobe = getattr(config, "mobe", None) or {}
        if mobe.get("version", 1) > 3:
            raise ValueError(f"{path}: version {mobe['version']} of the format, expected up to 3")
        self.f = ACTIVATIONS[mobe.get("activation") or getattr(config, "activation", "silu")]
        self.act = ACT2FN[getattr(text, "hidden_act", "silu")]
        self.fp8_block = (vars(config).pop("quantization_config", 0) or {}).get("weight_block_size")
        # Of names. transformers 5 has tables of its own, by model_type, which also stack experts.
        self.renamed = {p.replace("_", r"\."): p for p in reversed(PLANES) if "_int" in p}
        if tables := sys.modules.get("transformers.conversion_mapping"):
            for row in tables.get_checkpoint_conversion_mapping(text.model_type) or []:
                if ".experts." not in row.target_patterns[0]:
                    self.renamed[row.source_patterns[0]] = row.target_patterns[0]
            text.model_type = f"mobe_{text.model_type}"
        find = partial(cached_file, path, **hub, _raise_exceptions_for_missing_entries=False)
        if (files := [find("model.safetensors")]) == [None]:
            files, _ = get_checkpoint_shard_files(path, find("model.safetensors.index.json"), **hub)
        self.tensors = {}
        for file_name in files:
            with safe_open(file_name, "pt") as file:
                for key in file.keys():
                    name = reduce(lambda name, row: re.sub(*row, name), self.renamed.items(), key)
                    tensor = file.get_slice(key)
                    self.tensors[name] = tensor.get_dtype(), tensor.get_shape(), key

    def declare(self, module, prefix, name):  # parameters for a tensor, if it is there in any form
        for plane in (planes := [p for p in PLANES if f"{prefix}.{name}{p}" in self.tensors]):
            stored, shape, _ = self.tensors[f"{prefix}.{name}{plane}"]
            to = torch.float8_e4m3fn if stored == "F8_E4M3" else PLANES[plane]
            setattr(module, name + plane, nn.Parameter(torch.empty(shape, dtype=to), to is None))
        return bool(planes)


def read(module, name, shape, dtype):  # what ends in dimensions of `shape`, however it is stored
    get = module._parameters.get
    for bits in [b for b in range(2, 9) if get(f"{name}_int{b}") is not None]:
        codes, scales = get(f"{name}_int{bits}"), get(f"{name}_int{bits}_scales").to(dtype)
        group = 64 if bits == 8 else 32
        if codes.dim() == 3:  # bases: src/tensor/packed_bases.h of mobe
            codes = codes.unflatten(2, (-1, 16, 4)).permute(2, 4, 0, 1, 3).flatten(3).flatten(0, 1)
            scales, group = scales.permute(2, 0, 1), 256
        else:  # a matrix: src/tensor/packed.h
            if bits < 8:  # planes of the low bits and of the others: src/tensor/bit_planes.h
                widths = [w for w in ((2, bits - 2) if bits < 4 else (4, bits - 4)) if w]
                lines = [w // widths[-1] for w in widths]
                planes = codes.unflatten(1, (-1, sum(lines), 64)).split(lines, 2)
                codes = sum(
                    torch.cat([p >> b & (1 << w) - 1 for b in range(0, 8, w)], 3).flatten(1) << to
                    for p, w, to in zip(planes, widths, (0, widths[0]))
                )
            codes = codes.unflatten(1, (-1, 16, 4)).transpose(1, 2).flatten(2).flatten(0, 1)
            scales = scales.transpose(1, 2).flatten(0, 1)
        scales = scales.repeat_interleave(group, -1)[..., : codes.shape[-1]]
        codes = codes[: len(scales)].to(dtype) - (1 << bits - 1) + (0.5 if bits < 4 else 0)
        return (codes * scales * (1 + (bits < 4)))[..., : shape[0], : shape[1]]
    if (scale := get(f"{name}_scale_inv", get(f"{name}_scale"))) is None:
        return get(name).to(dtype)
    scale = scale if module.fp8_block else scale.reshape(-1, 1)  # of each row, or one for all
    for axis, size in enumerate(module.fp8_block or ()):
        scale = scale.repeat_interleave(size, axis).narrow(axis, 0, shape[axis])
    return (get(name).float() * scale).to(dtype)


# A linear layer or an embedding; or A of a factored one: the mixed bases come with the input.
class Matrix(nn.Module):
    def __init__(self, stored, prefix, shape, transposed=False, bias=None):
        super().__init__()
        stored.declare(self, prefix, "weight")
        self.shape, self.transposed, self.bias = shape, transposed, bias
        self.fp8_block, self.dtype = stored.fp8_block, torch.get_default_dtype()

    def forward(self, x, mix=None):
        w = read(self, "weight", self.shape, x.dtype if x.is_floating_point() else self.dtype)
        if mix is None:
            return F.linear(x, w, self.bias) if x.dtype == w.dtype else F.embedding(x, w)
        return x @ w @ mix if self.transposed else F.linear(F.linear(x, mix), w)

    def build(self, mix=None):
        weight = read(self, "weight", self.shape, torch.float32)
        if mix is not None:
            weight = (weight @ mix).T if self.transposed else weight @ mix
        weight = nn.Parameter(weight.to(self.dtype).contiguous())
        self._parameters = {"weight": weight, "bias": self.bias}


# Each of them is called by transformers 4, and the list by 5. What they share is the block's.
class Experts(nn.ModuleList):
    def __init__(self, stored, prefix, block):
        router = (getattr(block, "gate", None) or block.router).parameters()
        count, hidden = next(weight for weight in router if weight.dim() == 2).shape
        super().__init__(nn.ModuleDict() for _ in range(count))
        replaced = [block._modules.pop(name) for name in EXPERTS & block._modules.keys()]
        block.forward = self.run_granite if len(replaced) == 2 else block.forward
        size = sum(w.numel() for m in replaced for w in m.parameters()) // (3 * count * hidden)
        shapes = dict.fromkeys(KINDS, (size, hidden)) | {"down": (hidden, size)}
        self.stored, self.hidden, self.block = stored, hidden, [block]  # listed: it holds this
        self.ends, self.at_once = {}, count  # of groups' names, by kind; mixes with room of bases
        for kind in KINDS:
            ends = ["", *(f"_{group}" for group in range(count))]
            self.ends[kind] = [e for e in ends if stored.declare(block, prefix, f"W_{kind}{e}")]
            for end in self.ends[kind]:
                for form in ("", "_U", "_V"):
                    stored.declare(block, prefix, f"B_{kind}{form}{end}")
                bases, rank, _ = self.bases(kind, end, torch.float32).shape
                shapes[kind], self.at_once = (size, rank), min(self.at_once, bases)
        naming = any(f"{prefix}.experts.0.w2" in name for name in stored.tensors)
        for e, (kind, names) in product(range(count), KINDS.items()):
            at = f"{prefix}.experts.{e}.{names[naming]}"
            self[e].forward = partial(self.run, e)
            self[e][names[naming]] = Matrix(stored, at, shapes[kind], kind == "down")

    def bases(self, kind, end, dtype):
        block, left, right = self.block[0], f"B_{kind}_U{end}", f"B_{kind}_V{end}"
        if left in block._parameters:
            return getattr(block, left).to(dtype) @ getattr(block, right).to(dtype)
        bases = read(block, f"B_{kind}{end}", (None, self.hidden), dtype)  # or rows of all of them
        return bases.reshape(getattr(block, f"W_{kind}{end}").shape[1], -1, self.hidden)

    def mixed(self, kind, experts, dtype):
        ends = self.ends[kind]
        for group, some in groupby(experts, lambda e: e * len(ends) // len(self)):
            yield from () if ends else repeat(None)  # without end
            alpha = getattr(self.block[0], f"W_{kind}{ends[group]}")
            alpha = alpha[[e % len(alpha) for e in some]].to(dtype or alpha.dtype)
            bases = self.bases(kind, ends[group], alpha.dtype)
            yield from self.stored.f(torch.tensordot(alpha, bases, 1))

    def mixes(self, experts, dtype=None):  # f(sum_b alpha_b B_b) of each kind; None: not factored
        for some in (experts[i : i + self.at_once] for i in range(0, len(experts), self.at_once)):
            yield from zip(some, *(self.mixed(kind, some, dtype) for kind in KINDS))

    def run(self, e, x, *mixes):
        gate, up, down = self[e].values()
        mixes = mixes or next(self.mixes([e]))[1:]
        return down(self.stored.act(gate(x, mixes[0])) * up(x, mixes[1]), mixes[2])

    def forward(self, x, indices, weights):
        out = torch.zeros_like(x)
        for e, *mixes in self.mixes(indices.unique().tolist()):
            t, k = torch.where(indices == e)
            out.index_add_(0, t, (self[e](x[t], *mixes) * weights[t, k, None]).to(x.dtype))
        return out

    def run_granite(self, x):  # the block of Granite in transformers 4
        logits = (router := self.block[0].router).layer(x.flatten(0, 1)).float()
        weights, indices = logits.topk(router.top_k, 1)
        return self(x.flatten(0, 1), indices, weights.softmax(1).type_as(x)).view_as(x), logits

    def build(self):
        for e, *mixes in self.mixes(range(len(self)), torch.float32):
            for matrix, mix in zip(self[e].values(), mixes):
                matrix.build(mix)
        for name in [name for name in self.block[0]._parameters if name[:2] in ("B_", "W_")]:
            delattr(self.block[0], name)
        self.ends = dict.fromkeys(KINDS, [])


# The original's, of transformers' class where it has one, else of the model's own code.
class MobeConfig(PretrainedConfig):
    @classmethod
    def from_pretrained(cls, path, **kwargs):
        config, unused = cls.get_config_dict(path, **kwargs)
        model_type = config["model_type"] = ALIASES.get(config["model_type"], config["model_type"])
        name = (config.get("plain_auto_map") or {}).get("AutoConfig")
        if model_type in CONFIG_MAPPING or name is None:
            return CONFIG_MAPPING[model_type].from_dict(config, **unused)
        return get_class_from_dynamic_module(name, path, **kwargs).from_pretrained(path, **kwargs)


# Comes before the original's class in that of the model, which from_pretrained makes of both.
class MobeForCausalLM:
    register_for_auto_class = staticmethod(lambda *args, **kwargs: None)

    def __init__(self, config, *args, **kwargs):
        packed = {name.rpartition(".weight_")[0] for name in self.stored.tensors}
        tied = config.tie_word_embeddings and any("embed" in name for name in packed)
        config.tie_word_embeddings &= not tied  # there is no weight to tie
        super().__init__(config, *args, **kwargs)
        for name, module in list(self.named_modules()):
            if (parts := module._modules.keys()) & {"gate", "router"} and parts & EXPERTS:
                module.experts = Experts(self.stored, name, module)
        for name, module in list(self.named_modules()):
            if name in packed and isinstance(module, (nn.Linear, nn.Embedding)):
                bias = getattr(module, "bias", None)
                self.set_submodule(name, Matrix(self.stored, name, module.weight.shape, bias=bias))
        if tied:
            self.set_output_embeddings(nn.Identity())
            self.get_output_embeddings().forward = self.get_input_embeddings().__call__

    @classmethod
    def from_pretrained(cls, path, *args, config=None, mobe_experts="factored", **kwargs):
        hub = {key: kwargs[key] for key in HUB if key in kwargs}
        config = copy.deepcopy(config) or MobeConfig.from_pretrained(path, **hub)
        base = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)  # this one, if it has none
        bare = not getattr(base, "__module__", "").startswith("transformers.")
        if bare and (name := (vars(config).get("plain_auto_map") or {}).get("AutoModelForCausalLM")):
            base = get_class_from_dynamic_module(name, path, **hub)
        elif bare or config.model_type.startswith(UNLIKE):
            raise ValueError(f"{path}: no class for it; `mobe reconstruct` writes a plain model")
        text = config.text_config if base.config_class in config.sub_configs.values() else config
        own = {"stored": Stored(path, config, text, hub), "__module__": cls.__module__}
        cls = type(cls.__name__, (cls, base, GenerationMixin), own)  # older models' code lacks it
        # Without offload_buffers 4.57 loses the biases of routers that are on the disk.
        asked = {"offload_buffers": True, **kwargs, "config": text, "output_loading_info": True}
        asked["key_mapping"] = cls.stored.renamed
        model, info = super(MobeForCausalLM, cls).from_pretrained(path, *args, **asked)
        if info["missing_keys"]:
            raise ValueError(f"{path}: has no tensors {sorted(info['missing_keys'])}")
        vars(model.config).pop("model_type", None)
        for m in list(model.modules()) if mobe_experts == "built" else ():
            if isinstance(m, (Experts, Matrix)) and not any(w.is_meta for w in m.parameters()):
                m.build()  # what is offloaded stays as it is
        return (model, info) if kwargs.get("output_loading_info") else model


# By the names in the examples of the published models.
Qwen3MoBEForCausalLM = DeepseekV3MoBEForCausalLM = KimiK2MoBEForCausalLM = MobeForCausalLM
