//! The files that start servers, and the README next to them.

use super::record::{Record, ServerRecord};
use super::servers::{SGLANG, VLLM};

/// A shell script that runs a command in its own directory; more arguments are appended.
fn script(server: &str, command: &str, options: &[String]) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Serves the model and its adapters with {server} or later. More options of the server may be given.\n\
         set -eu\ncd -- \"$(dirname -- \"$0\")\"\nexec {command}"
    );
    for option in options {
        text += &format!(" \\\n  {option}");
    }
    text + " \\\n  \"$@\"\n"
}

/// Text in single quotes for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn adapters(record: &Record) -> String {
    let adapter = |name: &String| quoted(&format!("{name}=./adapters/{name}"));
    let adapters: Vec<String> =
        record.adapters.iter().map(|adapter| &adapter.name).map(adapter).collect();
    adapters.join(" ")
}

/// The script that starts vLLM.
pub(super) fn vllm(record: &Record) -> String {
    let options = [
        format!("--served-model-name {}", quoted(&record.name)),
        "--enable-lora".to_owned(),
        format!("--max-loras {}", record.adapters.len()),
        format!("--max-lora-rank {}", record.max_lora_rank),
        format!("--lora-modules {}", adapters(record)),
    ];
    script(VLLM.name, "vllm serve ./model", &options)
}

/// The script that starts SGLang. Its batches count the model without an adapter as one.
pub(super) fn sglang(record: &Record) -> String {
    let options = [
        "--model-path ./model".to_owned(),
        format!("--served-model-name {}", quoted(&record.name)),
        "--enable-lora".to_owned(),
        "--lora-strict-loading".to_owned(),
        format!("--max-loras-per-batch {}", record.adapters.len() + 1),
        format!("--lora-paths {}", adapters(record)),
    ];
    script(SGLANG.name, "python3 -m sglang.launch_server", &options)
}

/// The README of the output.
pub(super) fn readme(record: &Record) -> String {
    let Record { name, family, adapters, servers, .. } = record;
    let mut text = format!(
        "# {name} with {} LoRA adapter{}\n\n`model/` is a {family} model directory of Hugging Face's layout, `adapters/NAME/` are \
         adapters in PEFT's. Each file to start a server\nfinds them in its own directory, so the whole directory can be \
         moved. More options may be given, such as `--port 8000`.\n\n",
        adapters.len(),
        if adapters.len() == 1 { "" } else { "s" },
    );
    text += "| server | start | model name in requests |\n|---|---|---|\n";
    let rows = [
        (VLLM.name, &servers.vllm, "NAME".to_owned()),
        (SGLANG.name, &servers.sglang, format!("{name}:NAME")),
    ];
    for (server, found, model) in rows {
        text += &match found {
            ServerRecord::Script(script) => format!("| {server} | `./{script}` | `{model}` |\n"),
            ServerRecord::Refused(why) => format!("| {server} | none: {why} | |\n"),
        };
    }
    text += "\nAdapters: ";
    let names: Vec<String> = adapters.iter().map(|it| format!("`{}`", it.name)).collect();
    text += &names.join(", ");
    text += &format!(
        ". The model without an adapter is `{name}`.\n\nThe versions are those whose source the files were written by; earlier \
         ones may not apply LoRAs to experts. Servers compute in\nthe number format that they choose (`--dtype`) and round \
         LoRAs to it, so their answers can differ from litemoe's. To see that an\nadapter is applied, ask the same of it and \
         of the model alone.\n"
    );
    text
}
