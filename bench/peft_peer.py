"""LoRA training by PEFT behind the line protocol of engine.c. bench/peers runs it in the peers' environment.

peft_peer.py FOLDER THREADS        FOLDER: a model as transformers saves it

load f32|bf16             the model, with rank 8 on all linears
trainer T B CHECKPOINT    B sequences of T tokens, loss on every token
step, memory, forget      as engine.c
learn SET.json START OUT  a training set in 60 steps or as many as it says, from one adapter to another
score SET.json ADAPTER    mean -ln p of the held-out answers' tokens, base where ADAPTER is "-"
convert GGUF FOLDER       (instead of a session) dequantises a GGUF model into FOLDER"""

import gc, json, os, sys, time

import torch, transformers, peft

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IGNORED = -100


def convert(gguf, folder):
    m = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype=torch.float32
    )
    del m.config.quantization_config  # these are plain floats now
    plain = transformers.AutoModelForCausalLM.from_config(m.config, dtype=torch.float32)
    plain.load_state_dict(m.state_dict())
    plain.save_pretrained(folder)


def kb(path, key):
    with open(path) as f:
        return next((int(l.split()[1]) * 1024 for l in f if l.startswith(key)), 0)


class Peer:
    def __init__(self, folder):
        self.folder, self.model, self.rows = folder, None, None

    def load(self, dtype, checkpoint="0"):
        self.dtype, self.checkpoint = dtype, checkpoint
        self.model = self.optimiser = self.rows = None
        gc.collect()
        base = transformers.AutoModelForCausalLM.from_pretrained(
            self.folder, dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
        )
        base.config.use_cache = False
        if checkpoint == "1":
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(0)
        self.train(
            peft.get_peft_model(
                base,
                peft.LoraConfig(
                    r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM"
                ),
            )
        )
        return {}

    def train(self, model):
        self.model = model
        self.model.train()
        learned = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learned, lr=3e-4, weight_decay=0.01)

    def trainer(self, tokens, batch, checkpoint):
        if checkpoint != self.checkpoint:
            self.load(self.dtype, checkpoint)
        tokens, batch = int(tokens), int(batch)
        self.rows = torch.tensor([[(i + b) * 7919 % 9000 + 100 for i in range(tokens)] for b in range(batch)])
        return {}

    def step(self):
        start = time.monotonic()
        loss = self.model(input_ids=self.rows, labels=self.rows).loss
        self.update(loss)
        return {"step_s": time.monotonic() - start, "loss": float(loss)}

    def update(self, loss):
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def memory(self):
        return {
            "peak_bytes": kb("/proc/self/status", "VmHWM:"),
            "resident_bytes": kb("/proc/self/status", "VmRSS:"),
            "anonymous_bytes": kb("/proc/self/smaps_rollup", "Anonymous:"),
        }

    def forget(self):
        self.optimiser.zero_grad(set_to_none=True)
        gc.collect()
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        return {}

    def losses(self, model, batch):
        """Of each example, -ln p summed over its answer, and how many tokens that is. Padded at the right;
        only answers go through the head."""
        longest = max(len(e["ids"]) for e in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask, label = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for i, e in enumerate(batch):
            n = len(e["ids"])
            ids[i, :n], mask[i, :n] = torch.tensor(e["ids"]), 1
            for p in e["targets"]:
                label[i, p - 1] = e["ids"][p]
        where = label != IGNORED
        core = model.get_base_model()
        hidden = core.model(input_ids=ids, attention_mask=mask).last_hidden_state
        nll = torch.nn.functional.cross_entropy(
            core.lm_head(hidden[where]).float(), label[where], reduction="none"
        )
        owner = torch.arange(len(batch))[:, None].expand_as(label)[where]
        count = torch.bincount(owner, minlength=len(batch))
        return torch.zeros(len(batch)).index_add(0, owner, nll), count

    def learn(self, file, start, out):
        """The loss is the mean of the examples' means."""
        with open(file) as f:
            task = json.load(f)
        self.train(peft.PeftModel.from_pretrained(self.model.unload(), start, is_trainable=True))
        steps, warmup = task["steps"], max(2, task["steps"] // 10)
        began_all, took = time.monotonic(), []
        for step, batch in enumerate(task["order"]):
            began = time.monotonic()
            rise = (step + 1) / (warmup + 1)
            fall = 1 - (step - warmup) / (steps - warmup)
            for group in self.optimiser.param_groups:
                group["lr"] = task["rate"] * (rise if step < warmup else fall)
            total, count = self.losses(self.model, [task["train"][i] for i in batch])
            self.update((total / count).mean())
            took.append(time.monotonic() - began)
        seconds = time.monotonic() - began_all
        self.model.save_pretrained(out)
        return {"total_s": seconds, "steps_s": took}

    @torch.no_grad()
    def score(self, file, adapter):
        with open(file) as f:
            rows = json.load(f)["held_out"]
        model = self.model
        if adapter != "-":
            base = transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
            model = peft.PeftModel.from_pretrained(base, adapter)
        model.eval()
        total = tokens = 0
        for i in range(0, len(rows), 8):
            nll, count = self.losses(model, rows[i : i + 8])
            total, tokens = total + float(nll.sum()), tokens + int(count.sum())
        model.train()
        return {"nll": total / tokens, "tokens": tokens}


def main():
    if sys.argv[1] == "convert":
        return convert(*sys.argv[2:])
    torch.set_num_threads(int(sys.argv[2]))
    transformers.logging.set_verbosity_error()
    peer = Peer(sys.argv[1])
    print(json.dumps({"torch": torch.__version__, "peft": peft.__version__}), flush=True)
    for order in sys.stdin:
        verb, *words = order.split()
        print(json.dumps(getattr(peer, verb)(*words)), flush=True)


main()
