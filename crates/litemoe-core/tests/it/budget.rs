use litemoe_core::Budget;

#[test]
fn shares_and_bytes_are_read_and_written() {
    for (text, budget, written) in [
        ("0.33", Budget::Share(0.33), "0.33"),
        ("1", Budget::Share(1.0), "1"),
        ("4MiB", Budget::Bytes(4 << 20), "4194304B"),
        ("1.5 kB", Budget::Bytes(1500), "1500B"),
    ] {
        assert_eq!(text.parse(), Ok(budget));
        assert_eq!(budget.to_string(), written);
        assert_eq!(written.parse(), Ok(budget));
    }
}

#[test]
fn nonsense_is_refused() {
    for text in ["", "0", "-0.1", "1.01", "NaN", "inf", "0MiB", "-4MiB", "4 XiB", "infGB", "0.5B"] {
        assert!(text.parse::<Budget>().is_err(), "{text} was read");
    }
}
