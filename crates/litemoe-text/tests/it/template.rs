use std::collections::BTreeMap;

use litemoe_text::{ChatTemplate, Message, TextError};

fn compile(source: &str) -> Result<ChatTemplate, TextError> {
    ChatTemplate::new(source, BTreeMap::new())
}

fn render(source: &str) -> Result<String, TextError> {
    compile(source)?.render(&[Message::user("hi")], true)
}

#[test]
fn a_template_that_does_not_parse_is_refused_with_its_line() {
    let error = compile("fine\n{% for %}").unwrap_err();
    assert!(matches!(error, TextError::TemplateSyntax { .. }));
    assert!(error.to_string().contains(":2"), "{error}");
}

#[test]
fn what_the_template_raises_is_told_from_what_fails() {
    let raised = render("{{ raise_exception('only two roles') }}").unwrap_err();
    assert!(matches!(raised, TextError::TemplateRaised { message } if message == "only two roles"));
    for source in [
        "{{ messages.none.of }}",
        "{{ 1 | nofilter }}",
        "{{ 'a' + 1 }}",
        "{{ 1 | tojson(ident=2) }}",
    ] {
        let error = render(source).unwrap_err();
        assert!(matches!(error, TextError::TemplateFailed { .. }), "{source}: {error}");
    }
}

#[test]
fn a_template_without_end_runs_out_of_fuel() {
    for source in [
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
    ] {
        let error = render(source).unwrap_err();
        assert!(matches!(error, TextError::TemplateTooLong { .. }), "{source}: {error}");
    }
}

#[test]
fn the_date_is_formatted_and_a_bad_format_is_an_error() {
    let year = render("{{ strftime_now('%Y') }}").unwrap();
    assert!(year.len() == 4 && year.parse::<u32>().unwrap() >= 2026, "{year}");
    assert!(matches!(render("{{ strftime_now('%!') }}"), Err(TextError::TemplateFailed { .. })));
}

#[test]
fn templates_see_no_files() {
    for source in ["{% include '/etc/hostname' %}", "{% import 'x' as x %}"] {
        assert!(matches!(render(source), Err(TextError::TemplateFailed { .. })), "{source}");
    }
}
