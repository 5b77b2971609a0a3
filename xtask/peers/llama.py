"""llama.cpp through llama-cpp-python, on a GGUF file: load, prefill, decode. The file is read into memory, not mapped."""

import numpy
import llama_cpp

from measuring import arguments, median, report, seconds_of

options = arguments(["load", "prefill", "decode"])


def opened():
    return llama_cpp.Llama(
        options.model, n_ctx=options.prompt + options.tokens + 64, n_batch=options.prompt, n_threads=options.threads,
        n_threads_batch=options.threads, use_mmap=False, logits_all=False, verbose=False)


def run(model, ids):
    """Runs tokens up to the logits after the last."""
    model.eval(ids)
    # Waits for the result.
    numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), (model.n_vocab(),)).max()


def instruction_sets():
    """What llama.cpp was built with and uses, such as AVX512 or AMX_INT8."""
    parts = llama_cpp.llama_print_system_info().decode().replace(":", "|").split("|")
    return " ".join(name.strip() for name, _, value in (part.partition("=") for part in parts) if value.strip() == "1")


def main():
    versions = {"llama-cpp-python": llama_cpp.__version__, "llama.cpp built with": instruction_sets()}
    if options.figure == "load":
        opened().close()
        return report(seconds_of(opened), **versions)
    model = opened()
    random = numpy.random.default_rng(options.seed)
    prompt, tokens = (random.integers(0, model.n_vocab(), n).tolist() for n in (options.prompt, options.tokens))

    def prefill():
        model.reset()
        return seconds_of(lambda: run(model, prompt))

    def decode():
        # What was decoded before is forgotten.
        model.n_tokens = len(prompt)
        return seconds_of(lambda: [run(model, [token]) for token in tokens])

    if options.figure == "decode":
        prefill()
    report(median(options.repetitions, prefill if options.figure == "prefill" else decode), **versions)


main()
