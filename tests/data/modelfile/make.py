#!/usr/bin/env python3
"""Makes the files beside it with gguf-py 0.19 and safetensors 0.8, not with plm: python3 make.py
kinds.gguf: every value type and four tensors. tiny.safetensors: three dtypes. adapter.gguf and adapter/: one
random adapter in both forms, rows of q and k permuted by the llama family's rule between them."""
import json
import os

import gguf
import numpy as np
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(5)

w = gguf.GGUFWriter(f"{here}/kinds.gguf", "llama")
w.add_uint8("k.u8", 200)
w.add_int8("k.i8", -100)
w.add_uint16("k.u16", 60000)
w.add_int16("k.i16", -30000)
w.add_uint32("k.u32", 4000000000)
w.add_int32("k.i32", -2000000000)
w.add_float32("k.f32", 0.1)
w.add_bool("k.bool", True)
w.add_string("k.string", "größe\n")
w.add_uint64("k.u64", 2**63 + 5)
w.add_int64("k.i64", -(2**40))
w.add_float64("k.f64", 1e-300)
w.add_array("k.words", ["", "a", "größe", "x" * 300])
w.add_array("k.ints", [1, -2, 3])
w.add_array("k.floats", [0.5, -1.5])
w.add_array("k.bools", [True, False])
w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
w.add_tensor("f16", np.arange(5, dtype=np.float16))
w.add_tensor("q8_0", gguf.quants.quantize(np.arange(64, dtype=np.float32).reshape(2, 32), gguf.GGMLQuantizationType.Q8_0),
             raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.add_tensor("cube", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

save_file({"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(4, dtype=np.float16),
           "none": np.zeros((0, 3), dtype=np.float32), "i": np.array([7], dtype=np.int64)},
          f"{here}/tiny.safetensors", metadata={"format": "pt"})

# An adapter for width 16, 4 heads (2 for keys), ffn 24, 2 layers; rank 3, alpha 6.
WIDTH, HEADS, KV_HEADS, FFN, RANK = 16, 4, 2, 24, 3
linears = {  # PEFT's name: GGUF's name, in, out, heads whose rows are permuted
    "self_attn.q_proj": ("attn_q", WIDTH, WIDTH, HEADS), "self_attn.k_proj": ("attn_k", WIDTH, WIDTH // 2, KV_HEADS),
    "self_attn.v_proj": ("attn_v", WIDTH, WIDTH // 2, 0), "self_attn.o_proj": ("attn_output", WIDTH, WIDTH, 0),
    "mlp.gate_proj": ("ffn_gate", WIDTH, FFN, 0), "mlp.up_proj": ("ffn_up", WIDTH, FFN, 0),
    "mlp.down_proj": ("ffn_down", FFN, WIDTH, 0)}


def permuted(b, heads):
    """Rows as the llama family's GGUF has them: the two halves of each head interleave."""
    if not heads:
        return b
    return b.reshape(heads, 2, b.shape[0] // heads // 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape)


peft = {}
w = gguf.GGUFWriter(f"{here}/adapter.gguf", "llama")
w.add_type("adapter")
w.add_string("adapter.type", "lora")
w.add_float32("adapter.lora.alpha", 6.0)
for layer in range(2):
    for name, (short, n_in, n_out, heads) in linears.items():
        a = rng.normal(size=(RANK, n_in)).astype(np.float32)
        b = rng.normal(size=(n_out, RANK)).astype(np.float32)
        peft[f"base_model.model.model.layers.{layer}.{name}.lora_A.weight"] = a
        peft[f"base_model.model.model.layers.{layer}.{name}.lora_B.weight"] = b
        w.add_tensor(f"blk.{layer}.{short}.weight.lora_a", a)
        w.add_tensor(f"blk.{layer}.{short}.weight.lora_b", np.ascontiguousarray(permuted(b, heads)))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
os.makedirs(f"{here}/adapter", exist_ok=True)
save_file(peft, f"{here}/adapter/adapter_model.safetensors", metadata={"format": "pt"})
with open(f"{here}/adapter/adapter_config.json", "w", encoding="utf-8") as f:
    json.dump({"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "bias": "none", "use_rslora": False, "use_dora": False,
               "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "target_modules": ["q_proj"]}, f,
              indent=2, sort_keys=True)
