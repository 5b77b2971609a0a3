use std::collections::HashMap;
use std::net::IpAddr;

use crate::turns::Client;

/// Cost of a prompt token and of a sampled token, as in the paper.
const PROMPT_COST: u64 = 1;
const SAMPLED_COST: u64 = 2;

/// Maximum number of counters that are kept of clients that have no request.
const MAX_IDLE: usize = 1024;

/// Virtual token counters (Fairness in Serving Large Language Models, arXiv 2401.00588): the tokens that each client was
/// served, of which the smallest is served next. Two levels: addresses, and the models of an address. A client that
/// begins is lifted to the least of those that are served, so that idling saves up nothing. Requests in the background do
/// not count as running.
#[derive(Debug, Default)]
pub(super) struct Shares {
    peers: HashMap<Option<IpAddr>, Counter>,
    clients: HashMap<Client, Counter>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    served: u64,
    /// Requests that are running.
    n_running: usize,
}

/// What a client was served: of its address, then its own. The smallest is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Served {
    peer: u64,
    client: u64,
}

impl Served {
    /// After further tokens.
    pub(super) fn plus(self, n_prompt: usize, n_sampled: usize) -> Self {
        let cost = cost(n_prompt, n_sampled);
        Self { peer: self.peer + cost, client: self.client + cost }
    }
}

fn cost(n_prompt: usize, n_sampled: usize) -> u64 {
    n_prompt as u64 * PROMPT_COST + n_sampled as u64 * SAMPLED_COST
}

impl Shares {
    /// A request of the client begins.
    pub(super) fn enter(&mut self, client: &Client) {
        let least = |served: &mut dyn Iterator<Item = &Counter>| {
            served.filter(|counter| counter.n_running > 0).map(|counter| counter.served).min()
        };
        let of_peer = least(&mut self.peers.values());
        let of_its_clients = self.clients.iter().filter(|(other, _)| other.peer == client.peer);
        let of_client = least(&mut of_its_clients.map(|(_, counter)| counter));
        self.peers.entry(client.peer).or_default().enter(of_peer);
        self.clients.entry(client.clone()).or_default().enter(of_client);
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

    /// Whether a request of the client is running.
    pub(super) fn is_running(&self, client: &Client) -> bool {
        self.clients.get(client).is_some_and(|counter| counter.n_running > 0)
    }

    pub(super) fn of(&self, client: &Client) -> Served {
        let served = |counter: Option<&Counter>| counter.map_or(0, |counter| counter.served);
        Served {
            peer: served(self.peers.get(&client.peer)),
            client: served(self.clients.get(client)),
        }
    }

    /// Counts tokens that the client was served.
    pub(super) fn charge(&mut self, client: &Client, n_prompt: usize, n_sampled: usize) {
        let of_peer = self.peers.get_mut(&client.peer);
        for counter in of_peer.into_iter().chain(self.clients.get_mut(client)) {
            counter.served += cost(n_prompt, n_sampled);
        }
    }
}

impl Counter {
    fn enter(&mut self, least: Option<u64>) {
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

    fn client(host: u8, model: &str) -> Client {
        Client { peer: Some(IpAddr::from([10, 0, 0, host])), model: model.to_owned() }
    }

    #[test]
    fn idling_saves_up_nothing() {
        let mut shares = Shares::default();
        let (busy, idle) = (client(1, "a"), client(2, "a"));
        shares.enter(&busy);
        shares.charge(&busy, 100, 50);
        shares.enter(&idle);
        assert_eq!(shares.of(&idle).peer, shares.of(&busy).peer);
        shares.leave(&idle);
        shares.charge(&busy, 100, 0);
        shares.enter(&idle);
        assert_eq!(shares.of(&idle).peer, 300);
    }

    #[test]
    fn going_and_coming_again_erases_nothing() {
        let mut shares = Shares::default();
        let (one, other) = (client(1, "a"), client(2, "a"));
        shares.enter(&other);
        shares.enter(&one);
        shares.charge(&one, 0, 100);
        shares.leave(&one);
        shares.enter(&one);
        assert!(shares.of(&one) > shares.of(&other));
    }

    #[test]
    fn models_of_one_address_share_what_it_is_served() {
        let mut shares = Shares::default();
        let (one, two, other) = (client(1, "a"), client(1, "b"), client(2, "a"));
        [&one, &two, &other].into_iter().for_each(|client| shares.enter(client));
        shares.charge(&one, 10, 0);
        assert!(shares.of(&other) < shares.of(&two) && shares.of(&two) < shares.of(&one));
        assert_eq!(shares.of(&two).plus(1, 1), Served { peer: 13, client: 3 });
    }

    #[test]
    fn the_counters_of_idle_clients_are_bounded() {
        let mut shares = Shares::default();
        let stays = client(1, "stays");
        shares.enter(&stays);
        for n in 0..3 * MAX_IDLE as u32 {
            let client = Client { peer: Some(IpAddr::from(n.to_be_bytes())), model: String::new() };
            shares.enter(&client);
            assert!(shares.is_running(&client));
            shares.leave(&client);
            assert!(shares.clients.len() <= MAX_IDLE + 1 && shares.peers.len() <= MAX_IDLE + 1);
        }
        assert!(shares.is_running(&stays));
    }
}
