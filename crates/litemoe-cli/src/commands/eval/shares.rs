//! Accuracies over all rows, with confidence interval, and per label.

use std::collections::BTreeMap;

use litemoe_adapter::share_95;
use litemoe_text::Row;
use serde::{Deserialize, Serialize};

/// Accuracies of one label's rows.
#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct OfLabel {
    rows: u64,
    accuracy: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label_accuracy: Option<f64>,
}

/// Share of `true` and its 95 % confidence interval.
pub(super) fn share(right: &[bool]) -> (f64, [f64; 2]) {
    let n_right = right.iter().filter(|&&right| right).count();
    (n_right as f64 / right.len() as f64, share_95(right))
}

/// Accuracy and label accuracy per label. Rows without a label are left out.
pub(super) fn by_label(
    rows: &[Row],
    exact: &[bool],
    chosen: Option<&[bool]>,
) -> BTreeMap<String, OfLabel> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        if let Some(label) = &row.label {
            places.entry(label).or_default().push(place);
        }
    }
    let share = |places: &[usize], right: &[bool]| {
        places.iter().filter(|&&place| right[place]).count() as f64 / places.len() as f64
    };
    let of = |(label, places): (&str, Vec<usize>)| {
        let found = OfLabel {
            rows: places.len() as u64,
            accuracy: share(&places, exact),
            label_accuracy: chosen.map(|chosen| share(&places, chosen)),
        };
        (label.to_owned(), found)
    };
    places.into_iter().map(of).collect()
}

/// Macro averages: the means over labels of accuracy and, if measured, label accuracy.
pub(super) fn macro_averages(labels: &BTreeMap<String, OfLabel>) -> (Option<f64>, Option<f64>) {
    let mean = |values: Vec<f64>| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let accuracies = labels.values().map(|label| label.accuracy).collect();
    (mean(accuracies), mean(labels.values().filter_map(|label| label.label_accuracy).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labels: &[Option<&str>]) -> Vec<Row> {
        let row = |label: &Option<&str>| Row {
            label: label.map(str::to_owned),
            ..Row::new("prompt", "completion")
        };
        labels.iter().map(row).collect()
    }

    #[test]
    fn a_share_lies_in_its_interval() {
        let (mean, [low, high]) = share(&[true, false, false, true, false]);
        assert_eq!(mean, 0.4);
        assert!(low < mean && mean < high && low >= 0.0 && high <= 1.0, "{low} {high}");
    }

    #[test]
    fn labels_count_once_however_many_rows_they_have() {
        let rows = labelled(&[Some("a"), Some("a"), None, Some("b"), Some("a"), Some("a")]);
        let exact = [true, true, true, false, true, false];
        let chosen = [false, false, false, true, true, false];
        let labels = by_label(&rows, &exact, Some(&chosen));
        let (a, b) = (&labels["a"], &labels["b"]);
        assert_eq!((labels.len(), a.rows, a.accuracy, a.label_accuracy), (2, 4, 0.75, Some(0.25)));
        assert_eq!((b.rows, b.accuracy, b.label_accuracy), (1, 0.0, Some(1.0)));
        assert_eq!(macro_averages(&labels), (Some(0.375), Some(0.625)));
    }

    #[test]
    fn without_labels_there_is_no_average() {
        let labels = by_label(&labelled(&[None]), &[true], None);
        assert_eq!(macro_averages(&labels), (None, None));
    }
}
