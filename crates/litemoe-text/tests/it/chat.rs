//! Chat templates in the shape of released ones against transformers: text and tokens (`golden/chat/README.md`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use litemoe_text::{ChatTemplate, TextError, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::dirs::with_files;

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Map<String, Value>>,
    variables: Map<String, Value>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    #[serde(flatten)]
    expected: Expected,
}

/// What transformers gives.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
enum Expected {
    Text {
        text: String,
        ids: Vec<u32>,
    },
    /// The message of `raise_exception`.
    Raised {
        raised: String,
    },
    /// Another error of Jinja or Python.
    Failed {
        failed: String,
    },
}

fn tokenizer() -> (TempDir, Tokenizer) {
    let tokenizer = fs::read(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    let config = include_bytes!("golden/chat/tokenizer_config.json");
    let dir = with_files(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    (dir, tokenizer)
}

fn templates() -> BTreeMap<String, ChatTemplate> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/chat/templates");
    let named = [("bos_token", "<|begin|>"), ("eos_token", "<|endoftext|>")];
    let named: BTreeMap<_, _> = named.map(|(name, token)| (name.into(), token.into())).into();
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .map(|file| {
            let source = fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, ChatTemplate::new(&source, named.clone()).unwrap())
        })
        .collect()
}

#[test]
fn conversations_have_the_text_and_tokens_of_transformers() {
    let conversations: BTreeMap<String, Conversation> =
        serde_json::from_str(include_str!("golden/chat/conversations.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/chat/cases.json")).unwrap();
    let ((_dir, tokenizer), templates) = (tokenizer(), templates());
    let mut n_texts = 0;
    for Case { template, conversation, expected } in &cases {
        let Conversation { messages, variables } = &conversations[conversation];
        let rendered = templates[template].render_json(messages, variables);
        match (rendered, expected) {
            (Ok(rendered), Expected::Text { text, ids }) => {
                assert_eq!(&rendered, text, "{template}, {conversation}");
                let found = tokenizer.encode_text(&rendered).unwrap();
                assert_eq!(&found, ids, "{template}, {conversation}");
                n_texts += 1;
            }
            (Err(TextError::TemplateRaised { message }), Expected::Raised { raised }) => {
                assert_eq!(&message, raised, "{template}, {conversation}");
            }
            (Err(TextError::TemplateFailed { .. }), Expected::Failed { .. }) => {}
            (found, Expected::Failed { failed }) => {
                panic!("{template}, {conversation}: {found:?}, but transformers: {failed}")
            }
            (found, _) => panic!("{template}, {conversation}: {found:?}"),
        }
    }
    assert!(n_texts >= 200, "{n_texts} texts");
}
