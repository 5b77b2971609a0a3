use std::net::IpAddr;

use axum::http::uri::Authority;

use crate::ServerError;

/// Served `Host` names and addresses: the loopback ones, and the allowed ones.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    allowed: Vec<Authority>,
    is_any: bool,
}

impl Hosts {
    /// Reads the allowed hosts: names or addresses, each with or without a port; `*` is any.
    pub(crate) fn parse(values: &[String]) -> Result<Self, ServerError> {
        let named = values.iter().filter(|value| *value != "*");
        let allowed: Result<Vec<_>, _> = named.map(|value| authority(value)).collect();
        Ok(Self { allowed: allowed?, is_any: values.iter().any(|value| value == "*") })
    }

    /// The hosts of a server that listens on an address; `None` if it is unknown. If no host is allowed by name, a
    /// server whose address is not a loopback one serves any, because its names are unknown.
    pub(crate) fn at(self, address: Option<IpAddr>) -> Self {
        let is_local = address.is_some_and(|address| address.to_canonical().is_loopback());
        let is_any = self.is_any || self.allowed.is_empty() && !is_local;
        Self { is_any, ..self }
    }

    /// Whether any host is served.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any
    }

    pub(crate) fn serves(&self, host: &Authority) -> bool {
        let is_named = |allowed: &Authority| {
            name(allowed).eq_ignore_ascii_case(name(host))
                && (allowed.port().is_none() || allowed.port_u16() == host.port_u16())
        };
        self.is_any || is_loopback(name(host)) || self.allowed.iter().any(is_named)
    }
}

fn authority(value: &str) -> Result<Authority, ServerError> {
    let authority = value.parse().ok().filter(|authority: &Authority| is_host(authority));
    authority.ok_or_else(|| ServerError::AllowedHost { value: value.to_owned() })
}

/// Whether an authority is a host with an optional port, without user information.
pub(crate) fn is_host(authority: &Authority) -> bool {
    let text = authority.as_str();
    let port = text.strip_prefix(authority.host());
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    !authority.host().is_empty()
        && port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// The host without the dot that may end a full domain name.
fn name(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_suffix('.').unwrap_or(host)
}

fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_address =
        address.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
    let name = name.to_ascii_lowercase();
    is_address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &[&str] = &[
        "localhost",
        "LocalHost:80",
        "app.localhost",
        "localhost.",
        "127.0.0.1:8080",
        "127.9.9.9",
        "[::1]:1",
    ];
    const FOREIGN: &[&str] = &[
        "evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "[::2]",
        "[::]",
    ];

    fn hosts(allowed: &[&str], address: &str) -> Hosts {
        let allowed: Vec<_> = allowed.iter().map(|&host| host.to_owned()).collect();
        Hosts::parse(&allowed).unwrap().at(Some(address.parse().unwrap()))
    }

    fn serves(hosts: &Hosts, host: &str) -> bool {
        hosts.serves(&host.parse().unwrap())
    }

    #[test]
    fn a_local_server_serves_loopback_hosts_alone() {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let hosts = hosts(&[], address);
            assert!(LOOPBACK.iter().all(|host| serves(&hosts, host)));
            assert!(FOREIGN.iter().all(|host| !serves(&hosts, host)));
        }
    }

    #[test]
    fn and_the_allowed_ones_whose_port_counts_if_it_is_named() {
        let hosts = hosts(&["Models.example", "other.example:8443", "10.0.0.1"], "127.0.0.1");
        for host in ["models.example", "MODELS.example.:99", "other.example:8443", "10.0.0.1:1"] {
            assert!(serves(&hosts, host), "{host}");
        }
        for host in ["x.models.example", "other.example", "other.example:80", "10.0.0.2"] {
            assert!(!serves(&hosts, host), "{host}");
        }
        assert!(LOOPBACK.iter().all(|host| serves(&hosts, host)));
    }

    #[test]
    fn a_public_server_serves_any_host_unless_some_are_named() {
        for address in ["0.0.0.0", "192.168.1.5", "::"] {
            assert!(FOREIGN.iter().all(|host| serves(&hosts(&[], address), host)));
            assert!(!serves(&hosts(&["models.example"], address), "evil.example"));
        }
        assert!(serves(&hosts(&["*"], "127.0.0.1"), "evil.example"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for value in ["", "http://a", "a/b", "user@a", "a:x", "a:", "a b", "a:70000"] {
            let error = Hosts::parse(&[value.to_owned()]).unwrap_err();
            assert!(
                matches!(error, ServerError::AllowedHost { value: named } if named == value),
                "{value}"
            );
        }
    }
}
