use std::collections::HashMap;
use std::hash::Hash;

use crate::client::{Client, Peer};

/// Maximum number of clients whose last turn is known.
const MAX_KNOWN: usize = 1024;

/// Round robin over apps and addresses, and over the models of each.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Number of served requests.
    now: u64,
    peers: HashMap<Peer, u64>,
    clients: HashMap<Client, u64>,
}

impl Turns {
    /// When the client's app or address and its model there were last served; the smallest is next.
    pub(crate) fn last(&self, client: &Client) -> (u64, u64) {
        let peer = self.peers.get(&client.peer).copied().unwrap_or(0);
        (peer, self.clients.get(client).copied().unwrap_or(0))
    }

    /// Notes that the client was served.
    pub(crate) fn served(&mut self, client: Client) {
        self.now += 1;
        note(&mut self.peers, client.peer.clone(), self.now);
        note(&mut self.clients, client, self.now);
    }
}

/// Sets a key's turn; forgets those that are long past.
fn note<K: Eq + Hash>(turns: &mut HashMap<K, u64>, key: K, now: u64) {
    turns.insert(key, now);
    if turns.len() > MAX_KNOWN {
        turns.retain(|_, turn| *turn + MAX_KNOWN as u64 > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_clients_are_bounded_and_the_recent_ones_kept() {
        let mut turns = Turns::default();
        let client = |n: u32| Client::of(n.to_be_bytes().into(), "");
        for n in 0..10 * MAX_KNOWN as u32 {
            turns.served(client(n));
            assert!(turns.peers.len() <= MAX_KNOWN + 1 && turns.clients.len() <= MAX_KNOWN + 1);
            assert_eq!(turns.last(&client(n)), (u64::from(n) + 1, u64::from(n) + 1));
        }
        assert_eq!(turns.last(&client(0)), (0, 0));
    }
}
