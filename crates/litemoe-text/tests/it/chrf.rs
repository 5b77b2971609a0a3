//! chrF against sacrebleu 2.6.0 on the same texts: `golden/chrf.json`, made with Python 3.11 by
//!
//! ```python
//! import json, random
//! from sacrebleu.metrics import CHRF
//!
//! random.seed(7)
//! letters = "aaabbc de  fA(.é\u0301漢字😀\n\t\u00a0\u2003\x1c\x1f\u200b"
//! text = lambda: "".join(random.choices(letters, k=random.choice([0, 1, 2, 5, 9, 30])))
//! change = lambda s: "".join(random.choice([c, c, c, c, "", c + "a", random.choice(letters)]) for c in s)
//! cases = []
//! for _ in range(200):
//!     references = [text() for _ in range(random.choice([1, 1, 2, 4]))]
//!     answer = random.choice([text(), change(random.choice(references)), references[-1]])
//!     score = CHRF().sentence_score(answer, references).score
//!     cases.append(dict(answer=answer, references=references, score=score))
//! corpora = []
//! for first in range(0, 200, 20):
//!     part = cases[first : first + 20]
//!     references = [[c["references"][i] if i < len(c["references"]) else None for c in part] for i in range(4)]
//!     corpora.append(CHRF().corpus_score([c["answer"] for c in part], references).score)
//! json.dump(dict(cases=cases, corpora=corpora), open("golden/chrf.json", "w"), indent=0)
//! ```

use litemoe_text::Chrf;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    /// Corpus scores of 20 cases each.
    corpora: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    answer: String,
    references: Vec<String>,
    /// In percent.
    score: f64,
}

impl Case {
    fn counts(&self) -> Chrf {
        Chrf::of(&self.answer, self.references.iter().map(String::as_str))
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/chrf.json")).unwrap()
}

fn assert_score(found: f64, percent: f64, what: &str) {
    assert!(
        (100.0 * found - percent).abs() < 1e-9,
        "{what}: {}, expected {percent}",
        100.0 * found
    );
}

#[test]
fn texts_score_as_sacrebleu_says() {
    let cases = golden().cases;
    assert_eq!(cases.len(), 200);
    for case in cases {
        let what = format!("{:?} for {:?}", case.answer, case.references);
        assert_score(case.counts().score(), case.score, &what);
    }
}

#[test]
fn corpora_score_as_sacrebleu_says() {
    let Golden { cases, corpora } = golden();
    assert_eq!(corpora.len(), 10);
    for (part, score) in cases.chunks(20).zip(corpora) {
        let mut counts = Chrf::default();
        part.iter().for_each(|case| counts += case.counts());
        assert_score(counts.score(), score, "a corpus");
    }
}

#[test]
fn nothing_scores_nothing() {
    assert_eq!(Chrf::of("a", []).score(), 0.0);
    assert_eq!(Chrf::of("", ["a"]).score(), 0.0);
    assert_eq!(Chrf::of("", [""]).score(), 0.0);
}

proptest! {
    #[test]
    fn a_reference_scores_one_wherever_it_stands(text in "\\PC*[a-z]", other in "\\PC*") {
        prop_assert!((Chrf::of(&text, [other.as_str(), &text]).score() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn white_space_does_not_count(words in prop::collection::vec("[a-c]{1,4}", 1..6), reference in "[a-d ]*") {
        let (tight, wide) = (words.concat(), words.join(" \t"));
        prop_assert_eq!(Chrf::of(&tight, [reference.as_str()]), Chrf::of(&wide, [reference.as_str()]));
    }
}
