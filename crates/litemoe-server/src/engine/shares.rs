use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::client::{Client, Peer};

/// Cost of a prompt token and of a sampled token, as in the paper.
const PROMPT_COST: u64 = 1;
const SAMPLED_COST: u64 = 2;

/// Cost of a token for a client of weight 1 is a multiple of this, so that weights divide it with few errors.
const SCALE: u64 = 1 << 20;

/// Maximum number of counters that are kept of clients that have no request.
const MAX_IDLE: usize = 1024;

/// Virtual token counters (Fairness in Serving Large Language Models, arXiv 2401.00588): the tokens that each client was
/// served, of which the smallest is served next. Two levels: apps and addresses, and the models of each. An app's tokens
/// cost the less the larger its weight is. A client that begins is lifted to the least of those that are served, so that
/// idling saves up nothing.
#[derive(Debug, Default)]
pub(super) struct Shares {
    peers: HashMap<Peer, Counter>,
    clients: HashMap<Client, Counter>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    served: u64,
    weight: NonZeroU32,
    /// Requests that are running.
    n_running: usize,
}

/// What a client was served: its app or address, then its model there. The smallest is next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    peer: u64,
    client: u64,
    weight: NonZeroU32,
}

impl Served {
    /// After further tokens.
    pub(super) fn plus(self, n_prompt: usize, n_sampled: usize) -> Self {
        let cost = cost(n_prompt, n_sampled, self.weight);
        Self { peer: self.peer + cost, client: self.client + cost, ..self }
    }

    /// Place in the order of service.
    pub(super) fn order(self) -> (u64, u64) {
        (self.peer, self.client)
    }
}

fn cost(n_prompt: usize, n_sampled: usize, weight: NonZeroU32) -> u64 {
    let tokens = n_prompt as u64 * PROMPT_COST + n_sampled as u64 * SAMPLED_COST;
    (tokens * SCALE).div_ceil(u64::from(weight.get()))
}

impl Shares {
    /// A request of the client begins. Its weight is that of the client from now on.
    pub(super) fn enter(&mut self, client: &Client, weight: NonZeroU32) {
        let least = |served: &mut dyn Iterator<Item = &Counter>| {
            served.filter(|counter| counter.n_running > 0).map(|counter| counter.served).min()
        };
        let of_peer = least(&mut self.peers.values());
        let of_its_clients = self.clients.iter().filter(|(other, _)| other.peer == client.peer);
        let of_client = least(&mut of_its_clients.map(|(_, counter)| counter));
        self.peers.entry(client.peer.clone()).or_default().enter(of_peer, weight);
        self.clients.entry(client.clone()).or_default().enter(of_client, weight);
    }

    /// A request of the client has ended.
    pub(super) fn leave(&mut self, client: &Client) {
        let of_peer = self.peers.get_mut(&client.peer);
        for counter in of_peer.into_iter().chain(self.clients.get_mut(client)) {
            counter.n_running = counter.n_running.saturating_sub(1);
        }
        forget_idle(&mut self.peers);
        forget_idle(&mut self.clients);
    }

    /// Whether a request of the client is running: of an app any, and of an address, which may be several programs, of the
    /// same model.
    pub(super) fn is_running(&self, client: &Client) -> bool {
        let counter = match client.peer {
            Peer::App(_) => self.peers.get(&client.peer),
            Peer::Address(_) => self.clients.get(client),
        };
        counter.is_some_and(|counter| counter.n_running > 0)
    }

    pub(super) fn of(&self, client: &Client) -> Served {
        let counter = |counter: Option<&Counter>| counter.copied().unwrap_or_default();
        let peer = counter(self.peers.get(&client.peer));
        let Counter { served, weight, .. } = counter(self.clients.get(client));
        Served { peer: peer.served, client: served, weight }
    }

    /// Counts tokens that the client was served.
    pub(super) fn charge(&mut self, client: &Client, n_prompt: usize, n_sampled: usize) {
        let of_peer = self.peers.get_mut(&client.peer);
        for counter in of_peer.into_iter().chain(self.clients.get_mut(client)) {
            counter.served += cost(n_prompt, n_sampled, counter.weight);
        }
    }
}

impl Default for Counter {
    /// Nothing served, of weight 1.
    fn default() -> Self {
        Self { served: 0, weight: NonZeroU32::MIN, n_running: 0 }
    }
}

impl Counter {
    fn enter(&mut self, least: Option<u64>, weight: NonZeroU32) {
        self.weight = weight;
        if self.n_running == 0 {
            self.served = self.served.max(least.unwrap_or(0));
        }
        self.n_running += 1;
    }
}

fn forget_idle<K>(counters: &mut HashMap<K, Counter>) {
    if counters.len() > MAX_IDLE {
        counters.retain(|_, counter| counter.n_running > 0);
    }
}

/// Number of a client among those so far.
pub(super) fn number_of<'c>(clients: &mut Vec<&'c Client>, client: &'c Client) -> usize {
    clients.iter().position(|&other| other == client).unwrap_or_else(|| {
        clients.push(client);
        clients.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host and model.
    fn client(host: u8, model: &str) -> Client {
        Client::at(host, model)
    }

    fn enter(shares: &mut Shares, client: &Client) {
        shares.enter(client, NonZeroU32::MIN);
    }

    #[test]
    fn idling_saves_up_nothing() {
        let mut shares = Shares::default();
        let (busy, idle) = (client(1, "a"), client(2, "a"));
        enter(&mut shares, &busy);
        shares.charge(&busy, 100, 50);
        enter(&mut shares, &idle);
        assert_eq!(shares.of(&idle).peer, shares.of(&busy).peer);
        shares.leave(&idle);
        shares.charge(&busy, 100, 0);
        enter(&mut shares, &idle);
        assert_eq!(shares.of(&idle).peer, 300 * SCALE);
    }

    #[test]
    fn going_and_coming_again_erases_nothing() {
        let mut shares = Shares::default();
        let (one, other) = (client(1, "a"), client(2, "a"));
        enter(&mut shares, &other);
        enter(&mut shares, &one);
        shares.charge(&one, 0, 100);
        shares.leave(&one);
        enter(&mut shares, &one);
        assert!(shares.of(&one).order() > shares.of(&other).order());
    }

    #[test]
    fn models_of_one_address_share_what_it_is_served() {
        let mut shares = Shares::default();
        let (one, two, other) = (client(1, "a"), client(1, "b"), client(2, "a"));
        [&one, &two, &other].into_iter().for_each(|client| enter(&mut shares, client));
        shares.charge(&one, 10, 0);
        let order = |client| shares.of(client).order();
        assert!(order(&other) < order(&two) && order(&two) < order(&one));
        assert_eq!(shares.of(&two).plus(1, 1).order(), (13 * SCALE, 3 * SCALE));
    }

    #[test]
    fn tokens_cost_less_with_a_larger_weight() {
        let mut shares = Shares::default();
        let (light, heavy) = (client(1, "a"), client(2, "a"));
        enter(&mut shares, &light);
        shares.enter(&heavy, NonZeroU32::new(3).unwrap());
        let mut n_served = [0, 0];
        for _ in 0..400 {
            let is_heavy = shares.of(&heavy).order() < shares.of(&light).order();
            shares.charge(if is_heavy { &heavy } else { &light }, 0, 1);
            n_served[usize::from(is_heavy)] += 1;
        }
        assert_eq!(n_served, [100, 300]);
        // The largest weight is not free.
        shares.enter(&heavy, NonZeroU32::MAX);
        let before = shares.of(&heavy).order();
        shares.charge(&heavy, 1, 0);
        assert!(shares.of(&heavy).order() > before);
    }

    #[test]
    fn the_counters_of_idle_clients_are_bounded() {
        let mut shares = Shares::default();
        let stays = client(1, "stays");
        enter(&mut shares, &stays);
        for n in 0..3 * MAX_IDLE as u32 {
            let client = Client::of(n.to_be_bytes().into(), "");
            enter(&mut shares, &client);
            assert!(shares.is_running(&client));
            shares.leave(&client);
            assert!(shares.clients.len() <= MAX_IDLE + 1 && shares.peers.len() <= MAX_IDLE + 1);
        }
        assert!(shares.is_running(&stays));
    }
}
