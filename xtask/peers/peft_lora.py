"""PEFT on a model directory in bf16: a step of AdamW on LoRAs of rank 8 on q, k, v and o; all tokens in the loss."""

import peft
import torch
from measuring import arguments, median, report, seconds_of
from transformers_model import load, versions


def main():
    options = arguments(["train"])
    model = load(options.model, options.threads, options.seed)
    model.config.use_cache = False
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, lora).train()
    optimiser = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad], lr=2e-3)
    ids = torch.randint(0, model.config.vocab_size, (options.rows, options.row_tokens))

    def step():
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    report(median(options.repetitions, lambda: seconds_of(step)), peft=peft.__version__, **versions())


main()
