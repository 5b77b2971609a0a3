use litemoe_text::{Row, TextScore};

fn score(completion: &str, references: &[&str], answer: &str) -> TextScore {
    let references = references.iter().map(ToString::to_string).collect();
    let mut score = TextScore::default();
    score.add(&Row { references, ..Row::new("", completion) }, answer);
    score
}

#[test]
fn the_completion_and_every_reference_are_right() {
    for (answer, right) in [("a b", 1), (" c\n", 1), ("d", 1), ("a  b", 0), ("A b", 0), ("", 0)] {
        assert_eq!(score("a b", &["c", "d "], answer).accepted, right, "{answer:?}");
    }
    assert_eq!(score("a", &["b"], "b").any_reference(), Some(1.0));
}

#[test]
fn rows_without_references_are_not_counted_among_those_with() {
    let mut score = score("a", &["b"], "c");
    score.add(&Row::new("", "a"), "a");
    assert_eq!((score.any_reference(), score.rows), (Some(0.0), 2));
    assert_eq!(TextScore::default().any_reference(), None);
}

#[test]
fn first_and_last_words() {
    for (completion, answer, first, last) in [
        ("find . -name x", " find /", 1, 0),
        ("find .", "finding .", 0, 1),
        ("alarm_set(time=\"7\")", "alarm_set(time=\"8\")", 1, 0),
        ("alarm_set()", "alarm()", 0, 0),
        ("3 + 4\n#### 7", "so it is\n#### 7\n", 0, 1),
        ("7", "17", 0, 0),
        ("7", "", 0, 0),
        ("", " ", 1, 1),
    ] {
        let found = score(completion, &[], answer);
        assert_eq!((found.first_words, found.last_words), (first, last), "{answer:?}");
    }
}
