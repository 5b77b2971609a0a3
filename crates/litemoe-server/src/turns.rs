use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Maximum number of clients whose last turn is known.
const MAX_KNOWN: usize = 1024;

/// Client of a request. Programs on one machine, or behind one proxy, have one address, but usually each its own model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// Address, as in [`peer_of`]; `None` if unknown.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) model: String,
}

/// The address by which clients are told apart: of an IPv6 address the network, because one host has many.
pub(crate) fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// Round robin over addresses, and over the models of an address.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Number of served requests.
    now: u64,
    peers: HashMap<Option<IpAddr>, u64>,
    clients: HashMap<Client, u64>,
}

impl Turns {
    /// When the client's address and its model there were last served; the smallest is next.
    pub(crate) fn last(&self, client: &Client) -> (u64, u64) {
        let peer = self.peers.get(&client.peer).copied().unwrap_or(0);
        (peer, self.clients.get(client).copied().unwrap_or(0))
    }

    /// Notes that the client was served.
    pub(crate) fn served(&mut self, client: Client) {
        self.now += 1;
        note(&mut self.peers, client.peer, self.now);
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
    fn hosts_of_one_ipv6_network_are_one_peer() {
        let peer = |text: &str| peer_of(text.parse().unwrap());
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), peer("2001:db8:1:2::9"));
        assert_ne!(peer("2001:db8:1:2::9"), peer("2001:db8:1:3::9"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("::1"), "::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_known_clients_are_bounded_and_the_recent_ones_kept() {
        let mut turns = Turns::default();
        let client =
            |n: u32| Client { peer: Some(IpAddr::from(n.to_be_bytes())), model: String::new() };
        for n in 0..10 * MAX_KNOWN as u32 {
            turns.served(client(n));
            assert!(turns.peers.len() <= MAX_KNOWN + 1 && turns.clients.len() <= MAX_KNOWN + 1);
            assert_eq!(turns.last(&client(n)), (u64::from(n) + 1, u64::from(n) + 1));
        }
        assert_eq!(turns.last(&client(0)), (0, 0));
    }
}
