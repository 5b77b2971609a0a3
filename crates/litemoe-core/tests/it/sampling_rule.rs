use litemoe_core::Sampling;

fn blamed(rule: &Sampling) -> Option<&'static str> {
    rule.check().err().map(|error| error.parameter())
}

#[test]
fn a_number_outside_its_range_is_refused_by_name() {
    type Set = fn(&mut Sampling, f32);
    let fields: [(&str, Set, &[f32], &[f32]); 7] = [
        ("temperature", |rule, x| rule.temperature = x, &[0.0, 5.0], &[-0.1]),
        ("top_p", |rule, x| rule.top_p = x, &[0.0, 1.0], &[-0.1, 1.1]),
        ("min_p", |rule, x| rule.min_p = x, &[0.0, 1.0], &[-0.1, 1.1]),
        ("repetition_penalty", |rule, x| rule.repetition_penalty = x, &[0.1, 9.0], &[0.0]),
        ("presence_penalty", |rule, x| rule.presence_penalty = x, &[-2.0, 2.0], &[-2.1, 2.1]),
        ("frequency_penalty", |rule, x| rule.frequency_penalty = x, &[-2.0, 2.0], &[-2.1, 2.1]),
        (
            "logit_bias",
            |rule, x| rule.logit_bias = [(3, x)].into(),
            &[-100.0, 100.0],
            &[-100.5, 100.5],
        ),
    ];
    for (name, set, right, wrong) in fields {
        let checked = |value| {
            let mut rule = Sampling::default();
            set(&mut rule, value);
            blamed(&rule)
        };
        assert!(right.iter().all(|&value| checked(value).is_none()), "{name}");
        let never = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let wrong = wrong.iter().copied().chain(never);
        for value in wrong {
            assert_eq!(checked(value), Some(name), "{value}");
        }
    }
}

#[test]
fn a_bias_of_no_token_is_refused() {
    let rule = Sampling { logit_bias: [(3, 1.0), (4, 1.0)].into(), ..Default::default() };
    assert_eq!(rule.check_tokens(5), Ok(()));
    let error = rule.check_tokens(4).unwrap_err();
    assert_eq!(error.to_string(), "`logit_bias` names token 4, but the model has 4");
}
