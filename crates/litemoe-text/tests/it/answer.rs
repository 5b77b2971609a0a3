use std::sync::LazyLock;

use litemoe_core::{Logprobs, SampledToken};
use litemoe_text::{Finish, Piece, Tokenizer};
use proptest::prelude::*;

use crate::dirs::{foundation, foundation_without_template, sentencepiece, with_template};

static BYTE_LEVEL: LazyLock<Tokenizer> = LazyLock::new(foundation_without_template);
static BYTE_FALLBACK: LazyLock<Tokenizer> = LazyLock::new(sentencepiece);

/// The pieces, and the number of tokens consumed.
fn pieces(tokenizer: &Tokenizer, ids: &[u32], stops: &[String]) -> (Vec<Piece>, usize) {
    let drawn = |&token: &u32| {
        let logprobs = Logprobs { token: -0.5, top: vec![(token, -0.5)] };
        Ok(SampledToken { token, logprobs: Some(logprobs) })
    };
    let mut answer = tokenizer.answer(stops);
    let pieces = answer.pieces(ids.iter().map(drawn)).map(Result::unwrap).collect();
    (pieces, answer.n_drawn())
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

/// Bytes of the tokens whose logprobs are in the pieces.
fn bytes(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| &piece.logprobs).flat_map(|l| l.drawn.bytes.clone()).collect()
}

/// A text up to the stop string that is completed first.
fn cut<'t>(whole: &'t str, stops: &[String]) -> Option<&'t str> {
    let ends = whole.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let cut = |so_far: &'t str| {
        stops.iter().filter_map(|stop| so_far.strip_suffix(stop.as_str())).min_by_key(|t| t.len())
    };
    ends.map(|end| &whole[..end]).find_map(cut)
}

#[test]
fn an_answer_ends_at_an_end_token_a_stop_string_or_with_its_tokens() {
    let ids = BYTE_LEVEL.encode_text("on 🙂 off<|endoftext|> more").unwrap();
    let end = ids.iter().position(|&id| id == 0).unwrap();
    for (ids, stop, expected, finish, n_drawn) in [
        (&ids[..], "zz", "on 🙂 off", Finish::EndToken, end + 1),
        (&ids[..end], "zz", "on 🙂 off", Finish::Length, end),
        (&ids[..], "🙂 o", "on ", Finish::StopString, end),
        (&ids[..], "off.", "on 🙂 off", Finish::EndToken, end + 1),
        (&ids[..0], "zz", "", Finish::Length, 0),
    ] {
        let (pieces, drawn) = pieces(&BYTE_LEVEL, ids, &[stop.to_owned()]);
        assert_eq!((text(&pieces).as_str(), drawn), (expected, n_drawn), "{stop}");
        let (last, others) = pieces.split_last().unwrap();
        assert_eq!(last.finish, Some(finish));
        assert!(others.iter().all(|piece| piece.finish.is_none()));
        assert!(bytes(&pieces).starts_with(expected.as_bytes()));
    }
}

#[test]
fn what_the_template_puts_before_an_answer_is_no_part_of_it() {
    let tokenizer = with_template(
        "{% for m in messages %}<|user|>{% if m.role == 'assistant' %}<|assistant|><think>\n\n</think>\n\n{% endif %}\
         {{ m.content }}<|pad|>{% endfor %}{% if add_generation_prompt %}<|user|>{% endif %}",
    );
    assert_eq!(tokenizer.assistant_prefix(), "<think>\n\n</think>\n\n");
    for (sampled, text, stops) in [
        ("<|assistant|><think>\n\n</think>\n\non and off", "on and off", ""),
        ("<think>\n\n</think>\n\n", "", ""),
        ("<think>\nwell\n</think>\n\non", "<think>\nwell\n</think>\n\non", ""),
        ("<think>\n\n</think>", "<think>\n\n</think>", ""),
        ("on <think>\n\n</think>\n\n", "on <think>\n\n</think>\n\n", ""),
        ("<think>\n\n</think>\n\non\n off", "on", "\n"),
        ("<think>\n\nx", "<think>", "\n"),
    ] {
        let ids = tokenizer.encode_text(sampled).unwrap();
        let stops: Vec<String> =
            [stops].iter().filter(|s| !s.is_empty()).map(|s| (*s).to_owned()).collect();
        let (pieces, _) = pieces(&tokenizer, &ids, &stops);
        assert_eq!(self::text(&pieces), text, "{sampled:?}");
        assert!(bytes(&pieces).starts_with(text.as_bytes()), "{sampled:?}");
    }
}

#[test]
fn a_token_across_the_end_of_the_prefix_is_told() {
    let tokenizer = foundation();
    assert_eq!(tokenizer.assistant_prefix(), " ");
    let ids = tokenizer.encode_text(" on the way").unwrap();
    let (pieces, _) = pieces(&tokenizer, &ids, &[]);
    assert_eq!(text(&pieces), "on the way");
    assert_eq!(bytes(&pieces), b" on the way");
}

#[test]
fn a_stop_string_may_be_a_special_token() {
    let ids = BYTE_LEVEL.encode_text("on<|user|> off").unwrap();
    for (stop, expected, n_drawn) in
        [("<|user|>", "on", 2), ("<|pad|>", "on off", 3), ("user", "on off", 3)]
    {
        let (pieces, drawn) = pieces(&BYTE_LEVEL, &ids, &[stop.to_owned()]);
        assert_eq!((text(&pieces).as_str(), drawn), (expected, n_drawn), "{stop}");
        let finish = if expected == "on" { Finish::StopString } else { Finish::Length };
        assert_eq!(pieces.last().unwrap().finish, Some(finish));
    }
}

#[test]
fn tokens_after_a_stop_string_are_not_told() {
    let ids = BYTE_LEVEL.encode_text("a b c d").unwrap();
    let (pieces, _) = pieces(&BYTE_LEVEL, &ids, &[" b c".to_owned()]);
    let told: Vec<_> = pieces.iter().flat_map(|piece| &piece.logprobs).collect();
    assert_eq!((text(&pieces).as_str(), told.len()), ("a", 1));
    assert_eq!((told[0].drawn.token.as_str(), told[0].top_logprobs.len()), ("a", 1));
}

#[test]
fn a_special_token_is_called_by_its_name() {
    assert_eq!(BYTE_LEVEL.token_bytes(0).unwrap(), b"<|endoftext|>");
    assert_eq!(BYTE_FALLBACK.token_bytes(1).unwrap(), b"</s>");
    assert_eq!(BYTE_LEVEL.token_bytes(1 << 20).unwrap(), b"");
}

proptest! {
    #[test]
    fn the_bytes_of_tokens_are_the_text(text in "\\PC{0,40}", plain in "[abc é🙂]{1,20}") {
        let joined = |tokenizer: &Tokenizer, text: &str| -> Vec<u8> {
            let ids = tokenizer.encode_text(text).unwrap();
            ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).collect()
        };
        prop_assert_eq!(joined(&BYTE_LEVEL, &text), text.as_bytes());
        prop_assert_eq!(joined(&BYTE_FALLBACK, &plain), format!(" {plain}").into_bytes());
    }

    #[test]
    fn any_tokens_are_the_whole_text_and_every_token_is_told(
        ids in prop::collection::vec(prop_oneof![4u32..260, 1u32..4200], 0..40),
    ) {
        let (pieces, n_drawn) = pieces(&BYTE_LEVEL, &ids, &[]);
        prop_assert_eq!(text(&pieces), BYTE_LEVEL.decode(&ids).unwrap());
        prop_assert_eq!(n_drawn, ids.len());
        let told = pieces.iter().flat_map(|piece| &piece.logprobs).map(|l| &l.drawn.bytes);
        let drawn: Vec<_> = ids.iter().map(|&id| BYTE_LEVEL.token_bytes(id).unwrap()).collect();
        prop_assert!(told.eq(&drawn), "a token is missing, or told twice");
    }

    #[test]
    fn stops_do_not_depend_on_the_tokens(
        whole in "[abü🙂 ]{0,24}",
        stops in prop::collection::vec("[abü🙂 ]{1,4}", 0..3),
        single in any::<bool>(),
    ) {
        // The tokenizer's tokens, or one token per byte.
        let byte = |byte: &u8| BYTE_LEVEL_BYTES[*byte as usize];
        let ids = match single {
            true => whole.as_bytes().iter().map(byte).collect(),
            false => BYTE_LEVEL.encode_text(&whole).unwrap(),
        };
        prop_assert_eq!(BYTE_LEVEL.decode(&ids).unwrap(), whole.as_str());
        let (pieces, _) = pieces(&BYTE_LEVEL, &ids, &stops);
        let expected = cut(&whole, &stops);
        prop_assert_eq!(text(&pieces), expected.unwrap_or(&whole));
        let finish = expected.map_or(Finish::Length, |_| Finish::StopString);
        prop_assert_eq!(pieces.last().unwrap().finish, Some(finish));
        // Text emitted so far belongs to tokens reported so far.
        for n in 0..pieces.len() {
            let (text, told) = (text(&pieces[..=n]), bytes(&pieces[..=n]));
            prop_assert!(told.starts_with(text.as_bytes()));
        }
    }
}

/// The token of each single byte.
static BYTE_LEVEL_BYTES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let of = |byte: u8| {
        let is_it = |&id: &u32| BYTE_LEVEL.token_bytes(id).unwrap() == [byte];
        (0..4096).find(is_it).unwrap()
    };
    (0..=255).map(of).collect()
});
