//! Generation without a model.

use litemoe_core::{Generation, GenerationError, Sampler, Sampling};

#[test]
fn nothing_is_sampled_from_logits_that_are_not_finite() {
    for (temperature, logit) in
        [(0.0, f32::NAN), (0.0, f32::INFINITY), (1.0, f32::NEG_INFINITY), (1.0, f32::NAN)]
    {
        let sampler = Sampler::new(Sampling { temperature, ..Sampling::default() });
        let mut generation = Generation::new(vec![1, 2], 8, sampler);
        let drawn = generation.advance(&[5.0, -1e30]).expect("finite").expect("a token");
        assert_eq!((drawn.token, generation.pending()), (0, &[0][..]));
        let error = generation.advance(&[5.0, logit]).expect_err("not finite");
        let GenerationError::NotFinite(error) = error else { panic!("{error}") };
        assert_eq!((error.token, error.n_sampled), (1, 1));
        assert_eq!(error.logit.to_bits(), logit.to_bits());
        assert!(generation.pending().is_empty(), "it is over");
    }
}
