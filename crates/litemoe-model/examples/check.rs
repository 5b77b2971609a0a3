use burn::tensor::{Device, Tensor};
use litemoe_core::*;
use litemoe_model::*;
fn ids(s: &str) -> Vec<u32> {
    s.split(',').map(|x| x.parse().unwrap()).collect()
}
fn v<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().try_into_vec().unwrap()
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dev = Device::flex();
    let t = std::time::Instant::now();
    let ck = match Checkpoint::open(&args[2]) {
        Ok(c) => c,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1)
        }
    };
    let m = match Model::load(&ck, &dev) {
        Ok(c) => c,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1)
        }
    };
    eprintln!("load {:?}", t.elapsed());
    match &*args[1] {
        "logits" => {
            let row = ids(&args[3]);
            let n = row.len();
            let l = v(m.logits(&Input::decoder(vec![row.clone()]), &mut Pass::plain()));
            std::fs::write(&args[4], l.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
                .unwrap();
            // cached
            let mut c = m.new_cache();
            let mut worst = 0f32;
            let vocab = m.vocab();
            let big = l.iter().fold(1f32, |a, x| a.max(x.abs()));
            for i in 0..n {
                let a = v(m.extend(&row[i..i + 1], &mut c, None));
                worst = a.iter().zip(&l[i * vocab..]).fold(worst, |w, (x, y)| w.max((x - y).abs()));
            }
            let half = n / 2;
            let mut c = m.new_cache();
            m.extend(&row[..half], &mut c, None);
            let a = v(m.extend(&row[half..], &mut c, None));
            worst =
                a.iter().zip(&l[(n - 1) * vocab..]).fold(worst, |w, (x, y)| w.max((x - y).abs()));
            // padded
            let rows = vec![row[..n / 3].to_vec(), row.clone(), row[..n / 2].to_vec()];
            let p = v(m.logits(&Input::decoder(rows.clone()), &mut Pass::plain()));
            let mut at = 0;
            let mut pad = 0f32;
            for r in &rows {
                for i in 0..r.len() {
                    for j in 0..vocab {
                        pad = pad.max((p[(at + i) * vocab + j] - l[i * vocab + j]).abs());
                    }
                }
                at += r.len();
            }
            let (g, f) = generate(
                &m,
                None,
                &row,
                &mut Sampler::new(Sampling::default()),
                Stop { max_new: 32, eos_ids: &[] },
                |_| true,
            );
            println!("cached {:.1e} padded {:.1e} {f:?}", worst / big, pad / big);
            println!("{g:?}");
        }
        "time" => {
            let row: Vec<u32> = (0..256u32).map(|i| (i * 37) % m.vocab() as u32).collect();
            let rows = vec![row.clone(); args.get(3).map_or(1, |x| x.parse().unwrap())];
            let mut best = f64::MAX;
            for _ in 0..3 {
                let t = std::time::Instant::now();
                let l = m.logits(&Input::decoder(rows.clone()), &mut Pass::plain());
                let _ = v(l.max());
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!(
                "prefill {} tokens {:.3} s, {:.0} tokens/s",
                rows.len() * 256,
                best,
                (rows.len() * 256) as f64 / best
            );
            let mut c = m.new_cache();
            m.extend(&row[..64], &mut c, None);
            let t = std::time::Instant::now();
            for i in 0..64 {
                let _ = v(m.extend(&row[64 + i..65 + i], &mut c, None));
            }
            println!("decode {:.1} tokens/s", 64.0 / t.elapsed().as_secs_f64());
            let s = std::fs::read_to_string("/proc/self/status").unwrap();
            for l in s.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("Rss")) {
                println!("{l}");
            }
        }
        _ => println!("{}", ck.fingerprint()),
    }
}
