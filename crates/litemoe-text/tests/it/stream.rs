use std::sync::LazyLock;

use litemoe_text::Tokenizer;
use proptest::prelude::*;

use crate::dirs::{foundation, sentencepiece};

static BYTE_LEVEL: LazyLock<Tokenizer> = LazyLock::new(foundation);
static BYTE_FALLBACK: LazyLock<Tokenizer> = LazyLock::new(sentencepiece);

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = tokenizer.detokenizer();
    let mut pieces: Vec<_> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
    pieces.push(detokenizer.finish().unwrap());
    pieces
}

#[test]
fn a_character_of_several_tokens_comes_as_one_piece() {
    let ids = BYTE_LEVEL.encode_text("a🙂b").unwrap();
    assert!(ids.len() > 3, "the character is a single token");
    let pieces: Vec<_> =
        pieces(&BYTE_LEVEL, &ids).into_iter().filter(|piece| !piece.is_empty()).collect();
    assert_eq!(pieces, ["a", "🙂", "b"]);
}

#[test]
fn special_tokens_are_not_text() {
    let ids = BYTE_LEVEL.encode_text("<|user|>a<|endoftext|> b<|pad|>").unwrap();
    assert_eq!(BYTE_LEVEL.decode(&ids).unwrap(), "a b");
    assert_eq!(pieces(&BYTE_LEVEL, &ids).concat(), "a b");
}

#[test]
fn a_word_after_a_special_token_keeps_its_space() {
    let ids = [
        &*BYTE_FALLBACK.encode_text("ab").unwrap(),
        &[1],
        &*BYTE_FALLBACK.encode_text("b").unwrap(),
    ]
    .concat();
    assert_eq!(BYTE_FALLBACK.decode(&ids).unwrap(), "ab b");
    assert_eq!(pieces(&BYTE_FALLBACK, &ids).concat(), "ab b");
}

proptest! {
    #[test]
    fn text_comes_back(text in "\\PC{0,60}") {
        let ids = BYTE_LEVEL.encode_text(&text).unwrap();
        prop_assert_eq!(BYTE_LEVEL.decode(&ids).unwrap(), &*text);
        prop_assert_eq!(pieces(&BYTE_LEVEL, &ids).concat(), text);
    }

    #[test]
    fn pieces_of_any_tokens_are_the_whole(ids in prop::collection::vec(0u32..4200, 0..40)) {
        prop_assert_eq!(pieces(&BYTE_LEVEL, &ids).concat(), BYTE_LEVEL.decode(&ids).unwrap());
    }

    #[test]
    fn pieces_of_single_bytes_are_the_whole(ids in prop::collection::vec(4u32..260, 0..40)) {
        prop_assert_eq!(pieces(&BYTE_LEVEL, &ids).concat(), BYTE_LEVEL.decode(&ids).unwrap());
    }

    #[test]
    fn pieces_are_the_whole_where_unknown_characters_are_bytes(ids in prop::collection::vec(
        prop_oneof![0u32..2, 2u32..266, 194u32..258, 258u32..266], 0..40)) {
        prop_assert_eq!(pieces(&BYTE_FALLBACK, &ids).concat(), BYTE_FALLBACK.decode(&ids).unwrap());
    }
}
