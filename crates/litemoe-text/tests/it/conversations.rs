//! Tokens and loss of conversations against transformers 5.23, whose assistant mask is what TRL's `assistant_only_loss`
//! trains on.
//!
//! `golden/assistant_masks.json`: `tokenizer = AutoTokenizer.from_pretrained("fixtures/foundation")`; per template and
//! conversation, `input_ids` and `assistant_masks` of `tokenizer.apply_chat_template(messages, tools=tools,
//! chat_template=…, return_dict=True, return_assistant_tokens_mask=True)`.

use std::collections::BTreeMap;

use litemoe_core::Sequence;
use litemoe_text::{LossTurns, Row, RowFile, TextError, Tokenizer};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dirs::{foundation, sentencepiece, with_config, with_files, with_template};

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    about: String,
    messages: Value,
    tools: Value,
    ids: Vec<u32>,
    mask: Vec<u8>,
}

pub(crate) fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/assistant_masks.json")).unwrap()
}

impl Case {
    fn row(&self) -> Row {
        row(&json!({"messages": self.messages, "tools": self.tools}))
    }

    /// Tokens up to the last one in the loss, and which are in it.
    fn expected(&self) -> (Vec<u32>, Vec<bool>) {
        let covered: Vec<bool> = self.mask.iter().map(|&covered| covered == 1).collect();
        let end = covered.iter().rposition(|&covered| covered).unwrap() + 1;
        (self.ids[..end].to_vec(), covered[..end].to_vec())
    }
}

/// The row of an object.
pub(crate) fn row(object: &Value) -> Row {
    let dir = with_files(&[("rows.jsonl", object.to_string().as_bytes())]);
    RowFile::read(dir.path().join("rows.jsonl")).unwrap().rows.remove(0)
}

pub(crate) fn messages(turns: &[(&str, &str)]) -> Row {
    let turns = turns.iter().map(|(role, content)| json!({"role": role, "content": content}));
    row(&json!({"messages": turns.collect::<Vec<_>>()}))
}

/// The foundation's tokenizer and end token with another template.
pub(crate) fn tokenizer(template: &str) -> Tokenizer {
    let config = json!({"chat_template": template, "eos_token": "<|endoftext|>"});
    Tokenizer::from_dir(with_config(&config).path()).unwrap()
}

/// A template without its `generation` tags.
pub(crate) fn untagged(template: &str) -> String {
    let plain = template
        .replace("endgeneration", "endif")
        .replace("generation %}", "if true %}")
        .replace("generation -%}", "if true -%}");
    assert!(!plain.contains(" generation") && plain.contains("add_generation_prompt"), "{plain}");
    plain
}

/// Runs of tokens in the loss, decoded with their special tokens.
pub(crate) fn spans(tokenizer: &Tokenizer, sequence: &Sequence) -> Vec<String> {
    let pairs: Vec<_> = sequence.tokens.iter().zip(&sequence.completion).collect();
    let runs = pairs.chunk_by(|(_, before), (_, after)| before == after).filter(|run| *run[0].1);
    let text = |run: &[(&u32, &bool)]| {
        run.iter()
            .map(|(id, _)| {
                String::from_utf8_lossy(&tokenizer.token_bytes(**id).unwrap()).into_owned()
            })
            .collect()
    };
    runs.map(text).collect()
}

#[test]
fn assistant_masks_equal_transformers() {
    let golden = golden();
    assert_eq!((golden.templates.len(), golden.cases.len()), (3, 21));
    for case in golden.cases {
        let tokenizer = tokenizer(&golden.templates[&case.template]);
        let found = tokenizer.encode(&case.row()).unwrap();
        let about = format!("{}, {}", case.template, case.about);
        assert_eq!((found.tokens, found.completion), case.expected(), "{about}");
    }
}

/// The templates without their `generation` tags, so that turns are found by rendering prefixes.
#[test]
fn without_generation_blocks_the_masks_are_the_same() {
    let golden = golden();
    for case in golden.cases {
        let tagged = &golden.templates[&case.template];
        let found = tokenizer(&untagged(tagged)).encode(&case.row()).unwrap();
        let (mut tokens, mut covered) = case.expected();
        if case.template == "thinking" {
            // Its blocks have a newline after the end token.
            let newline = foundation().encode_text("\n").unwrap()[0];
            for token in 0..tokens.len() {
                covered[token] &= !(tokens[token] == newline && tokens[token - 1] == 0);
            }
            tokens.pop();
            covered.pop();
        }
        assert_eq!(
            (found.tokens, found.completion),
            (tokens, covered),
            "{}, {}",
            case.template,
            case.about
        );
    }
}

#[test]
fn a_conversation_of_two_messages_is_the_pair() {
    let tokenizer = foundation();
    for (prompt, completion) in [("Hi", "Hello!"), (" Hi\n", "é <|endoftext|> b\n"), ("", "x")] {
        let conversation = messages(&[("user", prompt), ("assistant", completion)]);
        let pair = Row::new(prompt, completion);
        let encoded = tokenizer.encode(&pair).unwrap();
        assert_eq!(tokenizer.encode(&conversation).unwrap(), encoded);
        let [of_pair, of_conversation] =
            [&pair, &conversation].map(|row| tokenizer.encode_row_prompt(row).unwrap());
        assert_eq!(of_pair, of_conversation);
        assert!(encoded.tokens.starts_with(&of_pair));
    }
}

#[test]
fn an_inserted_think_block_is_in_the_loss_of_every_turn() {
    let tokenizer = tokenizer(
        "{% for m in messages %}{{ '<|user|>' + m.role + '\n' }}{% if m.role == 'assistant' %}\
         {{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}<|endoftext|>{% endfor %}\
         {% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}",
    );
    let turns = [("user", "a"), ("assistant", "<b>one"), ("user", "b"), ("assistant", "<i>two")];
    let encoded = tokenizer.encode(&messages(&turns)).unwrap();
    let written = |text: &str| format!("<think>\n\n</think>\n\n{text}<|endoftext|>");
    assert_eq!(spans(&tokenizer, &encoded), [written("<b>one"), written("<i>two")]);
    let pair = tokenizer.encode(&Row::new("a", "<b>one")).unwrap();
    assert_eq!(tokenizer.encode(&messages(&turns[..2])).unwrap(), pair);
}

#[test]
fn the_loss_can_cover_the_last_turn_alone() {
    let turns = [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")];
    let golden = golden();
    for (name, lead) in [("chatml", ""), ("headers", "")] {
        let tagged = tokenizer(&golden.templates[name]);
        let all = tagged.encode(&messages(&turns)).unwrap();
        let last = tagged.encode(&messages(&turns).with_loss(LossTurns::LastTurn)).unwrap();
        assert_eq!(all.tokens, last.tokens);
        assert_eq!(
            spans(&tagged, &all),
            [format!("{lead}one<|endoftext|>"), format!("{lead}two<|endoftext|>")]
        );
        assert_eq!(spans(&tagged, &last), [format!("{lead}two<|endoftext|>")]);
    }
    let plain = foundation();
    let last = plain.encode(&messages(&turns).with_loss(LossTurns::LastTurn)).unwrap();
    assert_eq!(spans(&plain, &last), [" two<|endoftext|>"]);
    let weighted = row(&json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "one", "weight": 0},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "two"},
    ]}));
    assert_eq!(plain.encode(&weighted).unwrap(), last);
}

#[test]
fn the_prompt_of_a_conversation_is_what_precedes_its_last_turn() {
    let tokenizer = foundation();
    let conversation =
        messages(&[("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")]);
    let prompt = tokenizer.encode_row_prompt(&conversation).unwrap();
    let expected = "<|user|>a<|assistant|> one<|endoftext|><|user|>b<|assistant|>";
    assert_eq!(prompt, tokenizer.encode_text(expected).unwrap());
    let text = row(&json!({"text": "t"}));
    assert!(matches!(tokenizer.encode_row_prompt(&text), Err(TextError::NoPrompt)));
}

#[test]
fn running_text_is_in_the_loss_after_its_first_token() {
    let tokenizer = foundation();
    let sequence = tokenizer.encode(&row(&json!({"text": "turn on the lights"}))).unwrap();
    assert_eq!(sequence.tokens, tokenizer.encode_text("turn on the lights<|endoftext|>").unwrap());
    assert!(!sequence.completion[0] && sequence.completion[1..].iter().all(|&covered| covered));
    let [begin, end] = [0, 1];
    let tokenizer = sentencepiece();
    let sequence = tokenizer.encode(&row(&json!({"text": "ab"}))).unwrap();
    assert_eq!(
        sequence.tokens,
        [&[begin], &*tokenizer.encode_text("ab").unwrap(), &[end]].concat()
    );
}

#[test]
fn templates_that_do_not_fit_a_conversation_are_refused() {
    let turns = [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")];
    let refused = |template: &str| with_template(template).encode(&messages(&turns)).unwrap_err();
    let error = refused(
        "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}<|pad|>{% endif %}{% endfor %}",
    );
    assert!(matches!(error, TextError::NoCompletion { .. }), "{error}");
    let error =
        refused("{{ messages | length }}{% for m in messages %}{{ m.content }}<|pad|>{% endfor %}");
    assert!(matches!(error, TextError::NotAPrefix { .. }), "{error}");
    let error = refused("{% for m in messages %}{{ m.content }}.{% endfor %}");
    assert!(matches!(error, TextError::NoEndToken { .. }), "{error}");
    let one_block = "{% for m in messages %}{{ m.content }}<|pad|>{% endfor %}{% generation %}x{% endgeneration %}";
    let last = messages(&turns).with_loss(LossTurns::LastTurn);
    let error = with_template(one_block).encode(&last).unwrap_err();
    assert!(matches!(error, TextError::GenerationBlocks { blocks: 1, turns: 2 }), "{error}");
    let marks = messages(&[("user", "\u{fdd1}"), ("assistant", "one")]);
    let error = with_template(one_block).encode(&marks).unwrap_err();
    assert!(matches!(error, TextError::MarkInText { character: '\u{fdd1}' }), "{error}");
    let error = sentencepiece().encode(&messages(&turns)).unwrap_err();
    assert!(
        matches!(&error, TextError::NoTemplate { given } if given == "user, assistant, user, assistant"),
        "{error}"
    );
}

#[test]
fn without_a_template_a_conversation_of_two_messages_is_the_pair() {
    let tokenizer = sentencepiece();
    let conversation = messages(&[("user", "ab"), ("assistant", "b")]);
    assert_eq!(
        tokenizer.encode(&conversation).unwrap(),
        tokenizer.encode(&Row::new("ab", "b")).unwrap()
    );
}

/// Text that is not blank.
fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}".prop_filter("not blank", |text| !text.trim().is_empty())
}

proptest! {
    #[test]
    fn the_mask_covers_every_answer_and_its_end(turns in prop::collection::vec(("\\PC{0,20}", text()), 1..5)) {
        let tokenizer = foundation();
        let ids = |text: &str| tokenizer.encode_text(text).unwrap();
        let (mut tokens, mut covered, mut chat) = (Vec::new(), Vec::new(), Vec::new());
        for (user, assistant) in &turns {
            let prompt = ids(&format!("<|user|>{user}<|assistant|>"));
            let answer = ids(&format!(" {assistant}<|endoftext|>"));
            covered.extend([vec![false; prompt.len()], vec![true; answer.len()]].concat());
            tokens.extend([prompt, answer].concat());
            chat.extend([("user", user.as_str()), ("assistant", assistant.as_str())]);
        }
        let sequence = tokenizer.encode(&messages(&chat)).unwrap();
        prop_assert_eq!((sequence.tokens, sequence.completion), (tokens, covered));
    }
}
