use super::Wanted;
use crate::config::{AttentionConfig, LatentConfig, QkNorm};

impl Wanted<'_> {
    pub(super) fn attention(&mut self, config: &AttentionConfig, path: &str, d_model: usize) {
        match &config.latent {
            Some(latent) => self.latent(config, latent, path, d_model),
            None => self.grouped(config, path, d_model),
        }
        let heads = config.n_heads * config.d_value();
        let has_bias = config.bias && !config.bare_output;
        let [.., output] = self.names.projections;
        self.linear(&format!("{path}.{output}"), [d_model, heads], has_bias);
        if config.sinks {
            self.named(format!("{path}.sinks"), &[config.n_heads]);
        }
    }

    fn grouped(&mut self, config: &AttentionConfig, path: &str, d_model: usize) {
        let (queries, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
        let [q, k, v, _] = self.names.projections;
        for (leaf, d_out) in [(q, queries), (k, keys), (v, keys)] {
            self.linear(&format!("{path}.{leaf}"), [d_out, d_model], config.bias);
        }
        let [q_width, k_width] = match config.qk_norm {
            QkNorm::None | QkNorm::Rotated => return,
            QkNorm::PerHead => [config.d_head; 2],
            QkNorm::Projection => [queries, keys],
        };
        self.weight(&format!("{path}.q_norm"), &[q_width]);
        self.weight(&format!("{path}.k_norm"), &[k_width]);
    }

    fn latent(
        &mut self,
        config: &AttentionConfig,
        latent: &LatentConfig,
        path: &str,
        d_model: usize,
    ) {
        let queries = config.n_heads * config.d_head;
        match latent.q_rank {
            None => self.linear(&format!("{path}.q_proj"), [queries, d_model], false),
            Some(rank) => {
                self.linear(&format!("{path}.q_a_proj"), [rank, d_model], config.bias);
                self.weight(&format!("{path}.q_a_layernorm"), &[rank]);
                self.linear(&format!("{path}.q_b_proj"), [queries, rank], false);
            }
        }
        let rank = latent.kv_rank;
        let compressed = [rank + latent.d_rotated, d_model];
        self.linear(&format!("{path}.kv_a_proj_with_mqa"), compressed, config.bias);
        self.weight(&format!("{path}.kv_a_layernorm"), &[rank]);
        let d_plain = config.d_head - latent.d_rotated;
        let heads = config.n_heads * (d_plain + latent.d_value);
        self.linear(&format!("{path}.kv_b_proj"), [heads, rank], false);
    }

    fn linear(&mut self, site: &str, shape: [usize; 2], has_bias: bool) {
        self.weight(site, &shape);
        if has_bias {
            self.bias(site, shape[0]);
        }
    }
}
