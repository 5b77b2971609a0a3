//! Parsers of option values with names, which help texts list with one line about each.

use std::ffi::OsStr;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};
use litemoe_adapter::MountRouting;
use litemoe_core::{
    Alignment, CacheDtype, Criterion, MergeMethod, RouterRule, SimilarityKind, WeightDtype,
};
use litemoe_registry::Priority;
use litemoe_text::LossTurns;

use crate::args::auto::Auto;
use crate::args::refit_kind::RefitKind;

/// Parser by [`FromStr`] that lists named values; others may be allowed too, such as numbers.
#[derive(Clone)]
pub(crate) struct Listed<T> {
    values: Vec<PossibleValue>,
    parsed: PhantomData<fn() -> T>,
}

impl<T> Listed<T> {
    fn of(values: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let value = |(name, about)| PossibleValue::new(name).help(about);
        Self { values: values.into_iter().map(value).collect(), parsed: PhantomData }
    }
}

impl<T> TypedValueParser for Listed<T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, text: &OsStr) -> Result<T, Error> {
        let parse = |text: &str| text.parse::<T>().map_err(|error| error.to_string());
        parse.parse_ref(command, arg, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().cloned()))
    }
}

pub(crate) fn criterion() -> Listed<Criterion> {
    Listed::of(Criterion::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn merge_method() -> Listed<MergeMethod> {
    Listed::of(MergeMethod::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn similarity() -> Listed<SimilarityKind> {
    Listed::of(SimilarityKind::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn alignment() -> Listed<Alignment> {
    Listed::of(Alignment::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn router_rule() -> Listed<RouterRule> {
    Listed::of(RouterRule::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn quantised_dtype() -> Listed<WeightDtype> {
    let quantised = [WeightDtype::Q8, WeightDtype::Q4];
    Listed::of(quantised.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn weight_dtype() -> Listed<WeightDtype> {
    Listed::of(WeightDtype::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn cache_dtype() -> Listed<CacheDtype> {
    Listed::of(CacheDtype::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn priority() -> Listed<Priority> {
    Listed::of([
        ("interactive", "somebody waits for the answers"),
        ("background", "runs when no interactive request waits"),
    ])
}

pub(crate) fn loss_turns() -> Listed<LossTurns> {
    Listed::of(LossTurns::ALL.iter().map(|it| (it.name(), it.about())))
}

pub(crate) fn routing() -> Listed<Auto<MountRouting>> {
    Listed::of([
        ("restricted", "to the proxy's experts alone"),
        ("full", "to any expert"),
        ("auto", "the best of restricted, penalties 4, 2 and 1, and full on the validation rows"),
    ])
}

pub(crate) fn refit() -> Listed<Auto<RefitKind>> {
    let auto = "low-rank if the targets include all experts' down projections, the model is decoder-only and a layer's \
                sums fit 2 GiB; else none";
    let kinds = RefitKind::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let auto = PossibleValue::new("auto").help(auto);
    Listed { values: kinds.chain([auto]).collect(), parsed: PhantomData }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::args::device::DeviceName;
    use crate::args::mount::By;

    /// The names that help lists parse, and are the names in the records.
    fn expect_recorded<T>(listed: &Listed<T>)
    where
        T: FromStr<Err: Display> + Clone + Send + Sync + Serialize + 'static,
    {
        let values: Vec<PossibleValue> = listed.possible_values().expect("a list").collect();
        assert!(values.len() > 1);
        for value in values {
            let name = value.get_name();
            let parsed = listed.parse_ref(&Command::new("test"), None, OsStr::new(name));
            let recorded = serde_json::to_value(parsed.expect("it parses")).expect("JSON");
            assert_eq!(recorded, name);
            let about = value.get_help().expect("a line").to_string();
            assert!(!about.is_empty() && !about.contains('\n'), "{name}: {about}");
        }
    }

    fn expect_value_enum_recorded<T: ValueEnum + Serialize>() {
        for value in T::value_variants() {
            let listed = value.to_possible_value().expect("a name");
            assert_eq!(serde_json::to_value(value).expect("JSON"), listed.get_name());
            assert!(listed.get_help().is_some(), "{listed:?}");
        }
    }

    #[test]
    fn names_in_help_texts_parse_and_are_those_of_the_records() {
        expect_recorded(&criterion());
        expect_recorded(&merge_method());
        expect_recorded(&similarity());
        expect_recorded(&alignment());
        expect_recorded(&router_rule());
        expect_recorded(&weight_dtype());
        expect_recorded(&cache_dtype());
        expect_recorded(&loss_turns());
        expect_recorded(&priority());
        expect_recorded(&routing());
        expect_recorded(&refit());
        expect_value_enum_recorded::<RefitKind>();
        expect_value_enum_recorded::<DeviceName>();
        expect_value_enum_recorded::<By>();
    }

    #[test]
    fn numbers_are_routings_too() {
        let parse = |text| routing().parse_ref(&Command::new("test"), None, OsStr::new(text));
        assert_eq!(parse("2.5").expect("a penalty"), Auto::Given(MountRouting::Biased(2.5)));
        let error = parse("ful").expect_err("unknown").to_string();
        assert!(error.contains("full, restricted, a number") && error.contains("auto"), "{error}");
    }
}
