/// Exponential function with an error of at most 2 ulp, without branches or calls, so that loops over it vectorise.
/// Clamps x to [-87, 88].
///
/// Splits `x = n·ln 2 + r` and evaluates Cephes' polynomial for `exp(r)` (Moshier, expf.c).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87., 88.);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + coefficient;
    }
    let exp_r = p * r * r + r + 1.;
    let two_to_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    exp_r * two_to_n
}

#[cfg(test)]
mod tests {
    use super::exp;

    /// Distance in units in the last place of the exact value.
    fn ulps(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let rounded = exact as f32;
        let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
        (f64::from(exp(x)) - exact).abs() / unit
    }

    #[test]
    fn is_within_two_ulp() {
        let largest = (-870_000..880_000).map(|at| ulps(at as f32 * 1e-4)).fold(0., f64::max);
        assert!(largest <= 2., "{largest} ulp");
    }

    #[test]
    fn is_exact_at_zero_and_clamped() {
        assert_eq!(exp(0.), 1.);
        assert_eq!(exp(-1e9), exp(-87.));
        assert!(exp(f32::NAN).is_nan());
    }
}
