"""transformers on a model directory in bf16: load, prefill, decode with a KV cache."""

import torch
import transformers
from measuring import arguments, median, report, seconds_of


def load(path, threads, seed):
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, experts_implementation="grouped_mm")


def versions():
    return dict(transformers=transformers.__version__, torch=torch.__version__)


def main():
    options = arguments(["load", "prefill", "decode"])
    opened = lambda: load(options.model, options.threads, options.seed)
    if options.figure == "load":
        opened()
        return report(seconds_of(opened), **versions())
    model = opened().eval()
    ids = torch.randint(0, model.config.vocab_size, (1, options.prompt + options.tokens))
    prompt, tokens = ids[:, :options.prompt], ids[:, options.prompt:]

    def run(ids, cache=None):
        return model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values

    def prefill():
        return seconds_of(lambda: run(prompt))

    def decode():
        cache = run(prompt)
        return seconds_of(lambda: [run(tokens[:, at:at + 1], cache) for at in range(options.tokens)])

    with torch.inference_mode():
        seconds = median(options.repetitions, prefill if options.figure == "prefill" else decode)
    report(seconds, **versions())


if __name__ == "__main__":
    main()
