#!/usr/bin/env python3
"""Makes the goldens of litemoe-adapter with torch, transformers and PEFT (2.15, 5.23, 0.21), and SHA256SUMS.

    make.py            base/, plain/, patterned/, rows.json, gradients.safetensors, losses.json, logits.safetensors
    make.py ours       logits_ours.safetensors: PEFT's logits of ours/, which litemoe-adapter's test wrote
                       (before it: WRITE_GOLDENS=1 cargo test --release -p litemoe-adapter --test it we_wrote)
    make.py experts    stacked/, gradients_stacked.safetensors, logits_stacked.safetensors
    make.py ours_experts   logits_ours_experts.safetensors, as `ours`
    make.py stacks     stacked_FAMILY/, logits_stacks.safetensors
    make.py ours_stacks    logits_ours_stacks.safetensors, as `ours`
    make.py routers    router_FAMILY/, all_FAMILY/, layers_granitemoe/, look_around_granitemoe/, logits_routers.safetensors
    make.py ours_routers   checks that PEFT computes the same with ours_router_FAMILY/, which the test wrote

base/       a random qwen3_moe of wide weights, so that logits are far from ties
plain/      a LoRA of rank 4 that PEFT wrote, A and B random, f32: where tuning starts
patterned/  one with rsLoRA, rank and alpha patterns, a regular expression as target, in bf16
stacked/    a LoRA of rank 2 on the stacks of experts and on q_proj, f32
ours_experts/  the same as we write it, expert by expert
stacked_FAMILY/  a LoRA of rank 2 on q_proj and 3 on the stacks of experts of fixtures/tiny/FAMILY, f32, for the families whose
                 checkpoints have only stacked experts
ours_FAMILY/     our adapter, with separate A for gate and up
router_FAMILY/   a LoRA of rank 2 on o_proj and the routers of fixtures/tiny/FAMILY, f32
ours_router_FAMILY/    the same as we write it
all_FAMILY/      a LoRA of rank 2 on `all-linear`, f32
layers_granitemoe/     a LoRA of rank 2 on q_proj in layers 0 and 2 (layers_to_transform)
look_around_granitemoe/    one with look-around in the targets' and the ranks' regular expressions

Logits of these are those of the last two tokens.
"""

import hashlib
import json
import math
import random
import sys
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

HERE = Path(__file__).parent
IDS = [5, 17, 90, 3, 44, 44, 61, 8, 120, 33, 2, 71]
STEPS, WARMUP, BATCH, LR, FINAL = 20, 4, 8, 2e-3, 0.05
LEAVES = ["q_proj", "k_proj", "v_proj", "o_proj"]
STACKS = ["granitemoe", "gpt_oss", "llama4_text"]
ROUTERS = {
    "deepseek_v2": "mlp.gate", "deepseek_v3": "mlp.gate", "gpt_oss": "mlp.router", "granitemoe": "block_sparse_moe.router",
    "llama4_text": "feed_forward.router", "mixtral": "mlp.gate", "olmoe": "mlp.gate", "phimoe": "mlp.router",
    "qwen2_moe": "mlp.gate", "qwen3_moe": "mlp.gate"}
OURS_ROUTERS = ["gpt_oss", "mixtral", "qwen2_moe", "switch_transformers"]
TINY = HERE.parents[3] / "fixtures" / "tiny"


def make_base():
    torch.manual_seed(1)
    config = Qwen3MoeConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        norm_topk_prob=True, max_position_embeddings=64, initializer_range=0.15, tie_word_embeddings=True,
        mlp_only_layers=[1], eos_token_id=0, bos_token_id=None, pad_token_id=None)
    Qwen3MoeForCausalLM(config).float().save_pretrained(HERE / "base")


def base(folder=HERE / "base"):
    auto = AutoModelForSeq2SeqLM if folder.name == "switch_transformers" else AutoModelForCausalLM
    return auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()


def make_adapter(name, seed, dtype, folder=HERE / "base", **options):
    torch.manual_seed(seed)
    model = peft.get_peft_model(base(folder), peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_" in key:
                weight.normal_(0, 0.15 if "lora_A" in key else 0.05)
    model.save_pretrained(HERE / name)
    file = HERE / name / "adapter_model.safetensors"
    save_file({key: value.to(dtype) for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    config = json.loads((HERE / name / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = folder.name
    for key in ("target_modules", "target_parameters"):
        if isinstance(config[key], list):
            config[key].sort()
    (HERE / name / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (HERE / name / "README.md").unlink()


def make_rows():
    rng = random.Random(3)
    rows = []
    for _ in range(20):
        prompt, completion = rng.randint(3, 14), rng.randint(1, 6)
        rows.append({"tokens": [rng.randrange(1, 128) for _ in range(prompt + completion)] + [0], "prompt": prompt})
    (HERE / "rows.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    return rows


def loss_of(model, rows):
    """Mean cross-entropy over all completion tokens of a padded batch."""
    width = max(len(row["tokens"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        n = len(row["tokens"])
        ids[i, :n], mask[i, :n] = torch.tensor(row["tokens"]), 1
        labels[i, row["prompt"]:n] = ids[i, row["prompt"]:n]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def lr_share(step):
    """Learning rate of step 0, 1, …: linear warmup, then cosine decay to FINAL at the last step."""
    step += 1
    if step <= WARMUP:
        return step / WARMUP
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def train(rows):
    model = peft.PeftModel.from_pretrained(base(), HERE / "plain", is_trainable=True)
    named = {key.replace(".default", ""): p for key, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(named.values(), lr=LR, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_share)
    losses = []
    for step in range(STEPS):
        batch = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            save_file({key: p.grad.clone() for key, p in named.items()}, HERE / "gradients.safetensors")
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    (HERE / "losses.json").write_text(json.dumps(losses) + "\n")


def make_experts():
    make_adapter("stacked", 5, torch.float32, r=2, lora_alpha=6, target_modules=["q_proj"],
                 target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])
    path = HERE / "stacked" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_parameters"].sort()
    path.write_text(json.dumps(config, indent=2) + "\n")
    model = peft.PeftModel.from_pretrained(base(), HERE / "stacked", is_trainable=True)
    loss_of(model, json.loads((HERE / "rows.json").read_text())[:BATCH]).backward()
    save_file({key.replace(".default", ""): p.grad.clone() for key, p in model.named_parameters() if p.requires_grad},
              HERE / "gradients_stacked.safetensors")
    save_file({"stacked": logits_with("stacked")}, HERE / "logits_stacked.safetensors")


def make_stacks():
    for family in STACKS:
        name, module = f"stacked_{family}", {"granitemoe": "block_sparse_moe", "llama4_text": "feed_forward"}.get(family, "mlp")
        targets = [f"{module}.experts.down_proj", f"{module}.experts.gate_up_proj"]
        make_adapter(name, 6, torch.float32, TINY / family, r=2, lora_alpha=3, target_modules=["q_proj"],
                     target_parameters=targets, rank_pattern={"gate_up_proj": 3, "down_proj": 3})
        path = HERE / name / "adapter_config.json"
        config = json.loads(path.read_text())
        config["target_parameters"].sort()
        path.write_text(json.dumps(config, indent=2) + "\n")
    logits = {family: logits_with(f"stacked_{family}", TINY / family) for family in STACKS}
    plain = {f"base_{family}": logits_with(None, TINY / family) for family in STACKS}
    save_file(logits | plain, HERE / "logits_stacks.safetensors")


def make_routers():
    adapters = {}
    for family, router in ROUTERS.items():
        adapters[f"router_{family}"] = {"target_modules": ["o_proj"], "target_parameters": [f"{router}.weight"]}
    adapters["router_switch_transformers"] = {"target_modules": ["o", "router.classifier"]}
    for family in ("qwen2_moe", "qwen3_moe"):
        adapters[f"all_{family}"] = {"target_modules": "all-linear"}
    adapters["layers_granitemoe"] = {
        "target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"}
    adapters["look_around_granitemoe"] = {
        "target_modules": r".*layers\.(?!1)\d+\.self_attn\.(?:q|k)_proj",
        "rank_pattern": {r"(?<=0\.self_attn\.)q_proj": 3}, "alpha_pattern": {r".*(?<!q)_proj": 5}}
    logits = {}
    for name, options in adapters.items():
        family = next(family for family in [*ROUTERS, "switch_transformers"] if name.endswith(f"_{family}"))
        make_adapter(name, 7, torch.float32, TINY / family, r=2, lora_alpha=8, **options)
        logits[name] = logits_with(name, TINY / family)[-2:].contiguous()
        logits[f"base_{family}"] = logits_with(None, TINY / family)[-2:].contiguous()
    save_file(logits, HERE / "logits_routers.safetensors")


def check_ours_routers():
    logits = load_file(HERE / "logits_routers.safetensors")
    for family in OURS_ROUTERS:
        found = logits_with(f"ours_router_{family}", TINY / family)[-2:]
        difference = (found - logits[f"router_{family}"]).abs().max().item()
        print(family, difference)
        assert difference < 1e-6


def logits_with(adapter, folder=HERE / "base"):
    model = base(folder)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, HERE / adapter).eval()
    inputs = {"input_ids": torch.tensor([IDS])}
    if folder.name == "switch_transformers":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits[0].contiguous()


def make_all():
    make_base()
    make_adapter("plain", 2, torch.float32, r=4, lora_alpha=8, target_modules=LEAVES)
    make_adapter(
        "patterned", 4, torch.bfloat16, r=4, lora_alpha=6, use_rslora=True, target_modules=r".*\.self_attn\.[qkvo]_proj",
        rank_pattern={"layers.1.self_attn.q_proj": 2, r"^model\.layers\.2\..*": 3},
        alpha_pattern={"o_proj": 5, r"2\.self_attn\.v_proj": 9})
    train(make_rows())
    names = {"base": None, "plain": "plain", "patterned": "patterned"}
    save_file({key: logits_with(name) for key, name in names.items()}, HERE / "logits.safetensors")


def write_sums():
    files = sorted(path for path in HERE.rglob("*") if path.suffix in (".json", ".safetensors"))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}\n" for path in files)
    (HERE / "SHA256SUMS").write_text("".join(sums))


match sys.argv[1:]:
    case [("ours" | "ours_experts") as name]:
        save_file({name: logits_with(name)}, HERE / f"logits_{name}.safetensors")
    case ["experts"]:
        make_experts()
    case ["stacks"]:
        make_stacks()
    case ["routers"]:
        make_routers()
    case ["ours_routers"]:
        check_ours_routers()
    case ["ours_stacks"]:
        save_file({family: logits_with(f"ours_{family}", TINY / family) for family in STACKS},
                  HERE / "logits_ours_stacks.safetensors")
    case []:
        make_all()
write_sums()
