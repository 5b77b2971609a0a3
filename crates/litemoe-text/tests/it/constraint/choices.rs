use std::collections::BTreeSet;

use litemoe_core::{Sampling, TokenConstraint};
use litemoe_text::{Finish, GrammarError, GrammarKind, Tokenizer};
use proptest::prelude::*;

use super::babble::{Babbler, said};
use crate::dirs::{foundation, sentencepiece_ascii, with_template, word_piece_ascii};

/// Inserts a think block before answers.
fn thinking() -> Tokenizer {
    with_template(
        "{% for m in messages %}<|user|>{% if m.role == 'assistant' %}<|assistant|><think>\n\n</think>\n\n{% endif %}\
         {{ m.content }}<|pad|>{% endfor %}{% if add_generation_prompt %}<|user|>{% endif %}",
    )
}

fn tokenizers() -> [Tokenizer; 4] {
    [foundation(), sentencepiece_ascii(), word_piece_ascii(), thinking()]
}

fn is_word_piece(tokenizer: &Tokenizer) -> bool {
    tokenizer.vocab() < 200
}

fn choices<const N: usize>(choices: [&str; N]) -> GrammarKind {
    GrammarKind::Choice(choices.map(String::from).to_vec())
}

/// Texts that a hot babbler says by a grammar.
fn texts(tokenizer: &Tokenizer, kind: &GrammarKind, n: u64) -> BTreeSet<String> {
    let grammar = tokenizer.grammar(kind).unwrap();
    let text = |seed| {
        let sampling = Sampling { temperature: 3.0, seed, ..Sampling::default() };
        let text =
            Babbler::new(tokenizer, seed).generate(tokenizer, Some(&grammar), &sampling, 200);
        let text = text.unwrap();
        assert_eq!(text.finish, Finish::EndToken, "{:?}", text.text);
        text.text
    };
    (0..n).map(text).collect()
}

#[test]
fn each_choice_is_said_and_nothing_else() {
    for tokenizer in tokenizers() {
        for kind in [
            choices(["on", "off", "on and off"]),
            choices(["a", "ab", "abc", "abcd"]),
            choices(["yes"]),
            choices([" a", "a", "  a"]),
            choices(["\"q\"", "/x/", "#", "a.b*"]),
        ] {
            let GrammarKind::Choice(expected) = &kind else { unreachable!() };
            if is_word_piece(&tokenizer) && expected.iter().any(|choice| choice.starts_with(' ')) {
                continue;
            }
            let expected: BTreeSet<String> = expected.iter().cloned().collect();
            let said = texts(&tokenizer, &kind, 60);
            assert!(said.is_subset(&expected), "{said:?}");
            assert!(said.len() * 2 > expected.len(), "{said:?} of {expected:?}");
        }
    }
    let emoji = texts(&foundation(), &choices(["é🙂", "é\n\t\u{7f}", "<|user|>", "<think>"]), 60);
    assert!(emoji.len() >= 3 && emoji.contains("é🙂"), "{emoji:?}");
}

#[test]
fn what_the_template_inserts_is_no_part_of_a_choice() {
    let (tokenizer, lead) = (thinking(), "<think>\n\n</think>\n\n");
    let grammar = tokenizer.grammar(&choices(["on", "<think>\n\n</think>\n\non"])).unwrap();
    for (sampled, text) in [
        ("on".to_owned(), Some("on")),
        (format!("<|assistant|>{lead}on"), Some("on")),
        (format!("{lead}on"), None),
        (format!("<|assistant|>{lead}{lead}on"), Some("<think>\n\n</think>\n\non")),
        (format!("{lead}off"), None),
        ("<|assistant|>on".to_owned(), None),
    ] {
        let tokens = tokenizer.encode_text(&sampled).unwrap();
        let mut constraint = grammar.constraint();
        let mut is_allowed = true;
        for &token in &tokens {
            is_allowed &= constraint.allowed().is_ok_and(|allowed| allowed.contains(token))
                && constraint.accept(token).is_ok();
        }
        is_allowed &= constraint.may_end().unwrap_or(false);
        assert_eq!(is_allowed, text.is_some(), "{sampled:?}");
        if let Some(text) = text {
            assert_eq!(said(&tokenizer, &tokens), text);
        }
    }
}

#[test]
fn a_regular_expression_matches_the_whole_text() {
    for tokenizer in tokenizers() {
        for (regex, expected) in [
            ("[0-9]{3}-[a-f]", "^[0-9]{3}-[a-f]$"),
            (r"(yes|no)(, (yes|no)){0,3}", "^(yes|no)(, (yes|no)){0,3}$"),
            (r"a/b\/c?\x2e", r"^a/b/c?\.$"),
            ("[^a]{2}", "(?s)^[^a]{2}$"),
        ] {
            let expected = fancy_regex::Regex::new(expected).unwrap();
            let said = texts(&tokenizer, &GrammarKind::Regex(regex.to_owned()), 20);
            for text in &said {
                assert!(expected.is_match(text).unwrap(), "{regex}: {text:?}");
            }
            assert!(said.len() > 1, "{regex}: {said:?}");
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused() {
    let tokenizer = foundation();
    let regex = |text: &str| GrammarKind::Regex(text.to_owned());
    for kind in [
        choices([]),
        regex(""),
        regex("("),
        regex("a\\"),
        regex("(?=a)b"),
        regex(r"(a)\1"),
        regex("[^\\s\\S]"),
    ] {
        let error = tokenizer.grammar(&kind).unwrap_err();
        assert!(matches!(error, GrammarError::Refused { .. }), "{kind:?}: {error}");
    }
    for kind in [
        GrammarKind::Choice(vec!["a".to_owned(); 10_001]),
        GrammarKind::Choice(vec!["a".repeat(70_000)]),
        regex(&"a".repeat(70_000)),
    ] {
        let error = tokenizer.grammar(&kind).unwrap_err();
        assert!(matches!(error, GrammarError::TooLarge { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_choice_is_said_exactly(
        choices in prop::collection::vec("[ab{é\"<\\\\ ]{1,6}|<think>\n\n|.{1,3}", 1..6),
        seed: u64,
    ) {
        static TOKENIZERS: std::sync::LazyLock<[Tokenizer; 4]> =
            std::sync::LazyLock::new(tokenizers);
        for tokenizer in &*TOKENIZERS {
            // The words that a vocabulary of WordPiece has.
            let is_printable = |choice: &String| choice.chars().all(|c| matches!(c, '!'..='~'));
            if is_word_piece(tokenizer) && !choices.iter().all(is_printable) {
                continue;
            }
            let grammar = tokenizer.grammar(&GrammarKind::Choice(choices.clone())).unwrap();
            let sampling = Sampling { temperature: 2.0, seed, ..Sampling::default() };
            let babbler = Babbler::new(tokenizer, seed);
            let text = babbler.generate(tokenizer, Some(&grammar), &sampling, 99).unwrap();
            prop_assert!(choices.contains(&text.text), "{text:?}");
        }
    }
}
