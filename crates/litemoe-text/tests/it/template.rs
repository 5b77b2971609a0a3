use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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

/// Renders a template that must fail by its limits, in bounded memory.
#[track_caller]
fn too_costly(source: &str) -> TextError {
    let mut rendered = None;
    let allocated = allocation_counter::measure(|| rendered = Some(render(source)));
    let megabytes = allocated.bytes_max >> 20;
    assert!(megabytes < 256, "{source}: {megabytes} MB");
    rendered.unwrap().expect_err(source)
}

#[test]
fn expressions_are_as_long_as_the_stack_allows() {
    let compiled = |source: &str| ChatTemplate::new(source, BTreeMap::new());
    let links = [
        ("x", " ~ x"),
        ("x", " and x"),
        ("x", " == x"),
        ("x", " ** x"),
        ("x", ".x"),
        ("x", "[0]"),
        ("x", "()"),
        ("x", "|trim"),
        ("x", " if x else x"),
        ("x", " is not string"),
        ("x", " not in x"),
    ];
    for (start, link) in links {
        let source = |n: usize| format!("{{{{ {start}{} }}}}", link.repeat(n));
        compiled(&source(100)).unwrap_or_else(|error| panic!("{link}: {error}"));
        for n in [1000, 200_000 / link.len()] {
            let long = source(n);
            let unclosed = long.trim_end_matches(" }}");
            let header = format!("{{% set a{} %}}b{{% endset %}}", "|trim".repeat(n));
            for source in [&long, unclosed, &header] {
                let error = compiled(source).unwrap_err().to_string();
                assert!(error.contains("in a row"), "{link}: {error:.200}");
            }
        }
    }
    for sign in ["not ", "- ", "("] {
        let error = compiled(&format!("{{{{ {}x", sign.repeat(100_000))).unwrap_err().to_string();
        assert!(error.contains("more than"), "{sign}: {error:.200}");
    }
    let list = format!("{{{{ [{}] | length }}}}", "x.y ~ 1, ".repeat(10_000));
    compiled(&list).unwrap();
    let elifs = |n: usize| format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(n));
    compiled(&elifs(400)).unwrap();
    let error = compiled(&elifs(401)).unwrap_err().to_string();
    assert!(error.contains("more than 400 `elif`"), "{error:.200}");
}

#[test]
fn a_template_without_end_runs_out_of_fuel() {
    for source in [
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{% set s = namespace(x='x') %}{% for i in range(64) %}{% set s.x = s.x ~ s.x %}{% endfor %}",
        "{{ ('a' * 999999) | replace('a', 'b' * 999999) }}",
        "{{ ('a' * 999999).replace('a', 'b' * 999999) }}",
        "{{ ('a' * 999999).join(['b'] * 999) }}",
        "{{ (messages * 999) | join('a' * 999999) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ ('x' * 999999).strip('yx' * 9999) }}",
        "{{ ('a\n' * 99999) | indent(99999) }}",
        "{{ strftime_now('%c' * 9999999) }}",
        &format!("{{{{ {}[0] * 45000{} | tojson(indent=64) }}}}", "[".repeat(30), "]".repeat(30)),
        "{{ 'x'.center(9999999999) }}",
        "{{ ('Σ' * 9999).replace('', 'x' * 99999) }}",
    ] {
        let error = too_costly(source);
        assert!(matches!(error, TextError::TemplateTooLong { .. }), "{source}: {error}");
    }
}

#[test]
fn a_template_writes_no_more_than_any_model_reads() {
    for source in [
        "{% set s = 'x' * 999999 %}{% for i in range(99) %}{{ s }}{% endfor %}",
        "{% for i in range(999) %}{% for j in range(99) %}{{ 'x' * 999 }}{% endfor %}{% endfor %}",
        "{{ 'x' * 16777217 }}",
    ] {
        let error = too_costly(source);
        assert!(matches!(error, TextError::TemplateTooMuch { max_bytes: 16_777_216 }), "{error}");
    }
    assert_eq!(render("{{ 'x' * 16777216 }}").unwrap().len(), 16_777_216);
}

#[test]
fn what_a_template_builds_is_neither_deep_nor_endless() {
    let doubled = "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
    let nested =
        "{% set n = namespace(x=1) %}{% for i in range(99999) %}{% set n.x = [n.x] %}{% endfor %}";
    let longer = "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}";
    let of_dicts = "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = {'a': n.x} %}{% endfor %}";
    let of_sets = ["{% set a = [1, 1, 1] %}", &"{% set a = [a, a, a] %}".repeat(99)].concat();
    let of_loops = [
        "{% for a in [1] %}",
        &"{% for a in [[a, a]] %}".repeat(40),
        "{{ a }}",
        &"{% endfor %}".repeat(41),
    ];
    for source in [doubled, nested, longer, of_dicts, &of_sets, &of_loops.concat()] {
        let error = too_costly(source).to_string();
        assert!(error.contains("more than 50000 items or 32 levels"), "{source}: {error}");
    }
    for itself in ["n", "[n]", "{'a': n}", "[1, [n]]", "{'n': n}.n"] {
        let source =
            format!("{{% set n = namespace() %}}{{% set n.x = {itself} %}}{{{{ n ~ '' }}}}");
        let error = too_costly(&source).to_string();
        assert!(error.contains("a namespace cannot be part of a value"), "{source}: {error}");
    }
    for source in [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    ] {
        let error = too_costly(source).to_string();
        assert!(error.contains("recursion limit exceeded"), "{source}: {error}");
    }
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(9999), ")".repeat(9999));
    assert!(matches!(compile(&parentheses), Err(TextError::TemplateSyntax { .. })));
}

#[test]
fn what_templates_do_in_earnest_is_within_the_bounds() {
    let source = "{% set n = namespace(turns=[], last=none) %}\
        {% for m in messages[::-1] %}{% set n.turns = n.turns + [m] %}{% set n.last = m %}{% endfor %}\
        {% set a, b = n.turns | length, {'of': messages} %}{{ a }} {{ b.of | length }} {{ n.last.role }}\n\
        {% macro tree(of, depth) %}{{ depth }}{% if depth %}{{ tree([of], depth - 1) }}{% endif %}{% endmacro %}\
        {{ tree(messages[:2], 9) }}";
    let conversation = vec![Message::user("x".repeat(1000)); 500];
    let text = compile(source).unwrap().render(&conversation, true).unwrap();
    assert_eq!(text, "500 500 user\n9876543210");
}

/// Expected texts: jinja2 3.1.6 as transformers 5.23 configures it (`golden/chat/README.md`). An expression that is
/// computed has Python's text; those known to be refused are marked.
#[test]
fn expressions_have_the_text_of_python_or_none() {
    let cases: Vec<(String, String, bool)> =
        serde_json::from_str(include_str!("golden/expressions.json")).unwrap();
    assert!(cases.len() > 600);
    let messages = [("system", "S\n"), ("user", " héllo "), ("assistant", "ok")];
    let messages =
        messages.map(|(role, content)| Message { role: role.into(), content: content.into() });
    let named = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let named: BTreeMap<_, _> = named.map(|(name, token)| (name.into(), token.into())).into();
    for (expression, text, is_refused) in cases {
        let rendered = ChatTemplate::new(&format!("{{{{ {expression} }}}}"), named.clone())
            .and_then(|template| template.render(&messages, false));
        match rendered {
            Ok(rendered) => assert_eq!((rendered, is_refused), (text, false), "{expression}"),
            Err(error) => assert!(is_refused, "{expression}: {error}"),
        }
    }
}

#[test]
fn newlines_and_scopes_are_those_of_jinja() {
    for (source, text) in [
        ("a\r\n{% if true %}\r\nb\r{% endif %}\r\n", "a\nb\n"),
        ("{{ 'a\r\nb' }}", "a\nb"),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
        ("{{ {'a': {'b': 1}}['a'] }}{% if {'a': {'b': 1}} %}x{% endif %}", "{'b': 1}x"),
        ("{% if messages | selectattr('role', 'equalto', 'none') %}always{% endif %}", "always"),
        (
            "{% set g = messages | map(attribute='role') %}{{ g | first }}{{ g | list }}{{ g | list }}",
            "user[][]",
        ),
        (
            "{% for r in messages | map(attribute='role') %}{{ loop.length }}{{ loop.last }}{% endfor %}",
            "1True",
        ),
        (
            "{% set d = {'items': {'type': 1}} %}{{ d['items'].type }}{{ d.items() | list | length }}",
            "11",
        ),
        (
            "{% set d = {} %}{{ 'method' if d['items'] else 'none' }}{{ d['items']['type'] }}",
            "method",
        ),
    ] {
        assert_eq!(render(source).unwrap(), text, "{source:?}");
    }
    for source in ["{{ messages[0].items }}", "{{ messages | map('upper') }}", "{{ namespace() }}"]
    {
        let error = render(source).unwrap_err();
        assert!(matches!(error, TextError::TemplateFailed { .. }), "{source}: {error}");
    }
}

/// A value of 10^12 items, nested ones included, that takes a few steps to build.
#[test]
fn nested_items_are_not_compared_without_bound() {
    for source in [
        "{{ BIG == BIG }}",
        "{% if 1 and BIG != BIG or 2 %}{% endif %}",
        "{{ BIG < BIG }}",
        "{{ BIG >= BIG + [] }}",
        "{{ 1 if 1 < 2 == BIG }}",
        "{{ BIG in [BIG] }}",
        "{{ BIG not in [BIG] }}",
        "{{ BIG in 'a' }}",
        "{{ BIG is eq(BIG) }}",
        "{{ BIG is ge BIG }}",
        "{{ BIG is in [BIG] }}",
        "{{ {}[BIG] }}",
        "{{ {}[BIG if 1 else 2] }}",
        "{{ {BIG: 1} }}",
        "{{ {1: 2, BIG if 1 else 2: 1} }}",
        "{{ {}.get(BIG) }}",
        "{{ [BIG].index(BIG) }}",
        "{{ [BIG, BIG] | unique | list | length }}",
        "{{ [BIG, BIG] | sort | length }}",
        "{{ [BIG, BIG] | map('max') | list | length }}",
        "{{ [BIG, BIG] | max | length }}",
        "{{ [BIG, BIG] | min | length }}",
        "{{ [BIG] | select('eq', BIG) | list | length }}",
        "{{ [{'a': BIG}] | selectattr('a', 'in', [BIG]) | list | length }}",
        "{% macro f(a, b) %}{{ a == b }}{% endmacro %}{{ f(BIG, BIG) }}",
        "{% for x in [1] if BIG == BIG %}{{ x }}{% endfor %}",
        "{% for x in [1] %}{{ loop.changed(BIG) }}{{ loop.changed(BIG) }}{% endfor %}",
    ] {
        let start = Instant::now();
        let source = source.replace("BIG", "([[[0] * 9999] * 9999] * 9999)");
        let error = too_costly(&source).to_string();
        assert!(error.contains("more than 50000 items or 32 levels"), "{source}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{source}: {:?}", start.elapsed());
    }
    for (source, text) in [
        ("{{ [1, [2]] == [1, [2]] }}", "True"),
        ("{{ messages == messages + [] }}", "True"),
        ("{{ messages[0] in messages and 'role' in messages[0] }}", "True"),
        ("{{ [3, 1] | sort == [1, 3] }}{{ 1 < 2 < 3 }}{{ 'a' not in ['b'] }}", "TrueTrueTrue"),
        ("{{ {'a' ~ 'b': 1}['a' ~ 'b'] }}{{ [1, 2, 3][1:][-1] }}", "13"),
        ("{% for a in [[1, [1]]] if a[0] in a[1] %}{{ a }}{% endfor %}", "[1, [1]]"),
    ] {
        assert_eq!(render(source).unwrap(), text, "{source}");
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

#[test]
fn a_long_template_is_compiled_in_linear_time_and_a_longer_one_refused() {
    let start = Instant::now();
    assert!(compile(&"{{1}}".repeat(200_000)).is_ok());
    let brackets = ["(".repeat(200_000), ")".repeat(200_000)].concat();
    for deep in [brackets, ".items".repeat(150_000), "['items']".repeat(100_000)] {
        let error = compile(&format!("{{{{ a{deep} }}}}")).unwrap_err().to_string();
        assert!(error.contains("an expression of more than 200 levels"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let error = compile(&" ".repeat((1 << 20) + 1)).unwrap_err();
    assert!(
        matches!(error, TextError::TemplateTooLarge { bytes: 1_048_577, max_bytes: 1_048_576 }),
        "{error}"
    );
    assert!(compile(&" ".repeat(1 << 20)).is_ok());
}

#[test]
fn white_space_of_several_bytes_before_an_attribute_is_a_syntax_error() {
    for space in ["\u{a0}", "\u{3000}"] {
        let error = compile(&format!("{{{{ 1 *{space}b ~ .items }}}}")).unwrap_err();
        assert!(matches!(error, TextError::TemplateSyntax { .. }), "{error}");
    }
}

#[test]
fn a_panic_of_the_engine_is_an_error() {
    for block in
        ["{% with %}{% break %}{% endwith %}", "{% generation %}{% continue %}{% endgeneration %}"]
    {
        let source = format!("{{% for m in messages %}}{block}{{% endfor %}}");
        let error = render(&source).unwrap_err();
        assert!(matches!(error, TextError::TemplateFailed { .. }), "{source}: {error}");
    }
}

/// jinja2 computes the values of `with` outside its block, and escapes within `autoescape`.
#[test]
fn tags_that_the_engine_takes_otherwise_are_refused() {
    for source in [
        "{% with a=1, b=a %}{{ b }}{% endwith %}",
        "{%- with a = [1, 2], b = f(3, x ~ a) -%}{% endwith %}",
        "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    ] {
        let error = compile(&format!("\n{source}")).unwrap_err();
        assert!(matches!(error, TextError::TemplateSyntax { .. }), "{source}: {error}");
        assert!(error.to_string().contains("begins in line 2"), "{source}: {error}");
    }
    for (source, text) in [
        ("{% with a=1, b='a, b=a' %}{{ a ~ b }}{% endwith %}", "1a, b=a"),
        ("{% set a = 2 %}{% with a=a, b={'a': 3}.a %}{{ a ~ b }}{% endwith %}{{ a }}", "232"),
        ("{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}", "1"),
    ] {
        assert_eq!(render(source).unwrap(), text, "{source}");
    }
}
