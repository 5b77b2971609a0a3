use std::net::{IpAddr, Ipv6Addr};

use litemoe_registry::AppName;

/// Client of a request. Programs without keys on one machine, or behind one proxy, have one address, but usually each
/// its own model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) model: String,
}

/// Whose a request is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// An app's, by its key.
    App(AppName),
    /// Without a key: the address, as in [`peer_of`]; `None` if unknown.
    Address(Option<IpAddr>),
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

#[cfg(test)]
impl Client {
    /// The client of a host in 10.0.0.0/24.
    pub(crate) fn at(host: u8, model: &str) -> Self {
        Self::of(IpAddr::from([10, 0, 0, host]), model)
    }

    pub(crate) fn of(address: IpAddr, model: &str) -> Self {
        Self { peer: Peer::Address(Some(address)), model: model.to_owned() }
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
}
