//! Chat templates against transformers 5.23 on the same conversations.
//!
//! `golden/foundation.json`: `tokenizer = AutoTokenizer.from_pretrained("fixtures/foundation")`; per conversation and
//! `add_generation_prompt`, `tokenizer.apply_chat_template(messages, tokenize=False)` and the ids of `tokenize=True`.
//! `golden/templates.json`: `transformers.utils.chat_template_utils.render_jinja_template([messages], chat_template=…,
//! add_generation_prompt=…, bos_token="<s>", eos_token="</s>")`, its text or the text of its error.

use std::collections::BTreeMap;

use litemoe_text::{ChatTemplate, Message, TextError};
use serde::Deserialize;

use crate::dirs::foundation;

#[derive(Deserialize)]
struct Tokenized {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
    ids: Vec<u32>,
}

#[test]
fn the_foundations_conversations_equal_transformers() {
    let cases: Vec<Tokenized> =
        serde_json::from_str(include_str!("golden/foundation.json")).unwrap();
    let tokenizer = foundation();
    let template = tokenizer.template().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let text = template.render(&case.messages, case.add_generation_prompt).unwrap();
        assert_eq!(text, case.text);
        assert_eq!(tokenizer.encode_text(&text).unwrap(), case.ids, "{text:?}");
    }
}

#[derive(Deserialize)]
struct Templates {
    templates: BTreeMap<String, String>,
    cases: Vec<Rendering>,
}

#[derive(Deserialize)]
struct Rendering {
    name: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

#[test]
fn templates_in_the_style_of_the_wild_equal_transformers() {
    let golden: Templates = serde_json::from_str(include_str!("golden/templates.json")).unwrap();
    let named = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let named: BTreeMap<_, _> = named.map(|(name, token)| (name.into(), token.into())).into();
    assert_eq!(golden.cases.len(), 54);
    for case in golden.cases {
        let template = ChatTemplate::new(&golden.templates[&case.name], named.clone()).unwrap();
        match (template.render(&case.messages, case.add_generation_prompt), case.error) {
            (Ok(text), None) => assert_eq!(Some(text), case.text, "{}", case.name),
            (Err(TextError::TemplateRaised { message }), Some(error)) => assert_eq!(message, error),
            (ours, theirs) => panic!("{}: {ours:?}, but transformers: {theirs:?}", case.name),
        }
    }
}
