use litemoe_core::Sequence;
use litemoe_text::{Message, Row, TextError, Tokenizer};
use proptest::prelude::*;

use crate::dirs::{foundation, sentencepiece, with_template};

fn split(sequence: &Sequence) -> (Vec<u32>, Vec<u32>) {
    let pairs = || sequence.tokens.iter().copied().zip(sequence.completion.iter().copied());
    let of = |covered: bool| pairs().filter(|pair| pair.1 == covered).map(|pair| pair.0).collect();
    (of(false), of(true))
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_text(text).unwrap()
}

#[test]
fn a_row_is_prompt_then_completion_then_end() {
    let tokenizer = foundation();
    let sequence = tokenizer.encode(&Row::new("Customer: hi\nTopic:", "greeting")).unwrap();
    let (prompt, completion) = split(&sequence);
    assert_eq!(prompt, ids(&tokenizer, "<|user|>Customer: hi\nTopic:<|assistant|>"));
    assert_eq!(completion, ids(&tokenizer, " greeting<|endoftext|>"));
    assert_eq!(prompt, tokenizer.encode_prompt(&[Message::user("Customer: hi\nTopic:")]).unwrap());
}

#[test]
fn what_a_template_writes_after_the_end_token_is_left_out() {
    let tokenizer = with_template(
        "{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content | trim }}<|endoftext|>\n{% endfor %}\
         {% if add_generation_prompt %}<|user|>assistant\n{% endif %}",
    );
    let (prompt, completion) = split(&tokenizer.encode(&Row::new("hi", " well ")).unwrap());
    assert_eq!(prompt, ids(&tokenizer, "<|user|>user\nhi<|endoftext|>\n<|user|>assistant\n"));
    assert_eq!(completion, ids(&tokenizer, "well<|endoftext|>"));
    assert_eq!(tokenizer.end_ids(), &[0, 3].into());
}

#[test]
fn the_loss_covers_what_the_template_inserts_before_the_completion() {
    let template = |open: &str| {
        format!(
            "{{% for m in messages %}}<|user|>{{{{ m.role }}}}\n\
             {{% if m.role == 'assistant' %}}{{{{ '{open}' }}}}{{% endif %}}{{{{ m.content }}}}<|endoftext|>{{% endfor %}}\
             {{% if add_generation_prompt %}}<|user|>assistant\n{{% endif %}}"
        )
    };
    for (open, inserted) in
        [("<think>\\n\\n</think>\\n\\n", "<think>\n\n</think>\n\n"), ("\\n", "\n")]
    {
        let tokenizer = with_template(&template(open));
        let sequence = tokenizer.encode(&Row::new("hi", "<b>well</b>")).unwrap();
        let (prompt, completion) = split(&sequence);
        let text = |ids: &[u32]| tokenizer.decode(ids).unwrap();
        assert_eq!(text(&prompt), "user\nhiassistant\n");
        assert_eq!(text(&completion), format!("{inserted}<b>well</b>"));
        assert_eq!(completion.last(), Some(&0));
    }
}

#[test]
fn a_completion_that_names_special_tokens_is_covered_to_its_own_end() {
    let tokenizer = foundation();
    for text in ["a<|endoftext|>b", "<|endoftext|>", "", "<|assistant|> endoftext"] {
        let (_, completion) = split(&tokenizer.encode(&Row::new("p", text)).unwrap());
        assert_eq!(completion, ids(&tokenizer, &format!(" {text}<|endoftext|>")));
    }
}

#[test]
fn a_token_across_the_border_belongs_to_the_completion() {
    let tokenizer = with_template(
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if not add_generation_prompt %}<|pad|>{% endif %}",
    );
    let whole = ids(&tokenizer, "turn the");
    assert!(whole.len() < ids(&tokenizer, "turn t").len() + ids(&tokenizer, "he").len());
    let (prompt, completion) = split(&tokenizer.encode(&Row::new("turn t", "he")).unwrap());
    assert_eq!(tokenizer.decode(&prompt).unwrap(), "turn");
    assert_eq!(tokenizer.decode(&completion).unwrap(), " the");
}

#[test]
fn templates_that_do_not_fit_are_refused() {
    let row = Row::new("hi", "well");
    let refused = |template: &str| with_template(template).encode(&row).unwrap_err();
    let error = refused("{% if add_generation_prompt %}A{% else %}B{% endif %}");
    assert!(
        matches!(&error, TextError::NotAPrefix { prompt, whole } if prompt == "A" && whole == "B"),
        "{error}"
    );
    let error = refused("{{ messages[0].content }}");
    assert!(matches!(error, TextError::NoCompletion { .. }), "{error}");
    let error = refused("{% for m in messages %}{{ m.content }}.{% endfor %}");
    assert!(matches!(error, TextError::NoEndToken { .. }), "{error}");
    let error = refused("{{ raise_exception('no') }}");
    assert!(matches!(error, TextError::TemplateRaised { .. }), "{error}");
}

#[test]
fn without_a_template_a_row_is_prompt_space_completion_end() {
    let tokenizer = sentencepiece();
    let (prompt, completion) = split(&tokenizer.encode(&Row::new("ab", "b")).unwrap());
    let [begin, end] = [0, 1];
    assert_eq!(prompt, [&[begin], &*ids(&tokenizer, "ab")].concat());
    assert_eq!(completion, [&*ids(&tokenizer, "b"), &[end]].concat());
    assert_eq!(prompt, tokenizer.encode_prompt(&[Message::user("ab")]).unwrap());
}

#[test]
fn without_a_template_a_conversation_is_refused() {
    let messages = [Message::user("a"), Message::assistant("b")];
    let error = sentencepiece().encode_prompt(&messages).unwrap_err();
    assert!(
        matches!(&error, TextError::NoTemplate { given } if given == "user, assistant"),
        "{error}"
    );
}

#[test]
fn rows_over_the_limit_are_counted_and_never_cut() {
    let tokenizer = foundation();
    let rows = [Row::new("a", "b"), Row::new("a", "b ".repeat(50)), Row::new("c", "d")];
    let limit = tokenizer.encode(&rows[0]).unwrap().tokens.len();
    let encoded = tokenizer.encode_all(&rows, limit).unwrap();
    assert_eq!((encoded.rows, encoded.skipped_too_long), (vec![0, 2], 1));
    assert_eq!(encoded.sequences[1], tokenizer.encode(&rows[2]).unwrap());
    assert_eq!(tokenizer.encode_all(&rows, limit - 1).unwrap().skipped_too_long, 3);
    let some = tokenizer.encode_some(&rows, [2, 1], limit).unwrap();
    assert_eq!((some.rows, some.skipped_too_long), (vec![2], 1));
    assert_eq!(some.sequences, encoded.sequences[1..]);
}

#[test]
fn a_row_that_cannot_be_encoded_is_named() {
    let tokenizer = with_template(
        "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('bad') }}{% endif %}\
         {{ m.content }}<|pad|>{% endfor %}",
    );
    let rows = [Row::new("a", "b"), Row::new("bad", "b")];
    for error in [tokenizer.encode_all(&rows, 99), tokenizer.encode_some(&rows, [1], 99)] {
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "row 2: the chat template refuses these messages: bad");
    }
}

proptest! {
    #[test]
    fn the_mask_covers_the_completion_and_its_end(prompt in "\\PC{0,40}", completion in "\\PC{0,40}") {
        let tokenizer = foundation();
        let sequence = tokenizer.encode(&Row::new(&*prompt, &*completion)).unwrap();
        let whole = ids(&tokenizer, &format!("<|user|>{prompt}<|assistant|> {completion}<|endoftext|>"));
        prop_assert_eq!(&sequence.tokens, &whole);
        let (before, covered) = split(&sequence);
        prop_assert_eq!(before.len() + covered.len(), whole.len());
        prop_assert!(whole.starts_with(&before), "the covered tokens are not at the end");
        prop_assert_eq!(before, ids(&tokenizer, &format!("<|user|>{prompt}<|assistant|>")));
        prop_assert_eq!(tokenizer.decode(&covered).unwrap(), format!(" {completion}"));
    }
}
