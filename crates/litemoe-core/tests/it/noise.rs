use burn::tensor::Device;
use litemoe_core::{LayerId, Packing, RouterNoise};
use proptest::collection::vec;
use proptest::prelude::*;

fn draw(seeds: &[u64], lens: &[usize], layer: LayerId) -> Vec<f32> {
    let (device, std) = (Device::flex(), 0.5);
    let packing = Packing::new(lens.to_vec(), &device);
    let noise = RouterNoise { std, seeds: seeds.to_vec() };
    let noise = noise.sample(layer, &packing, 4, &device);
    assert_eq!(noise.dims(), [lens.iter().sum(), 4]);
    noise.into_data().try_into_vec().expect("f32 values")
}

proptest! {
    #[test]
    fn a_rows_noise_is_its_own(rows in vec((any::<u64>(), 1..9usize), 1..5)) {
        let (seeds, lens): (Vec<u64>, Vec<usize>) = rows.into_iter().unzip();
        let layer = LayerId::decoder(2);
        let together = draw(&seeds, &lens, layer);
        let alone: Vec<f32> = seeds
            .iter()
            .zip(&lens)
            .flat_map(|(&seed, &len)| draw(&[seed], &[len], layer))
            .collect();
        prop_assert_eq!(together, alone);
    }
}

#[test]
fn layers_and_stacks_draw_apart() {
    let draw = |layer| draw(&[7], &[5], layer);
    let draws = [draw(LayerId::decoder(0)), draw(LayerId::decoder(1)), draw(LayerId::encoder(0))];
    for (at, one) in draws.iter().enumerate() {
        for other in &draws[at + 1..] {
            assert!(one.iter().zip(other).all(|(one, other)| one != other));
        }
    }
}

#[test]
fn it_has_the_deviation_asked_for() {
    let values = draw(&[1, 2], &[4000, 1000], LayerId::decoder(0));
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 20_000.0;
    let wide = || values.iter().map(|&value| f64::from(value));
    assert!(mean(&mut wide()).abs() < 0.02);
    let deviation = mean(&mut wide().map(|value| value * value)).sqrt();
    assert!((deviation - 0.5).abs() < 0.01, "{deviation}");
}
