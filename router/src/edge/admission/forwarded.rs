//! Who a client is behind load balancers: `X-Forwarded-For`, of which only that is believed which a proxy of ours has
//! written.
//!
//! Each proxy appends the address that connected to it. So the list is read from its end: as long as the address there is
//! a trusted proxy's, that one has written the entry before it. The first that is none is the client's. What is left
//! of it the client may have made up.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use tertulia_runtime::config::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. `None` where a trusted proxy has named nobody: then it speaks for itself, as in a health check.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return Some(peer);
    }
    let lines = headers.get_all(FORWARDED_FOR).into_iter().filter_map(|line| line.to_str().ok());
    let entries: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut nearest = None;
    for entry in entries.into_iter().rev() {
        // Something that is no address, as `unknown`: the one that wrote it is the last that is known.
        let Some(address) = address(entry) else { break };
        nearest = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// An address, some proxies add the port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(peer: &str, lines: &[&'static str]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::try_from(text.to_owned()).unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let cases: [(&str, &[&'static str], Option<&str>); 10] = [
            ("192.0.2.1", &[], Some("192.0.2.1")),
            ("192.0.2.1", &["198.51.100.7"], Some("192.0.2.1")),
            ("10.0.0.1", &["198.51.100.7"], Some("198.51.100.7")),
            ("::ffff:10.0.0.1", &["198.51.100.7"], Some("198.51.100.7")),
            ("10.0.0.1", &["203.0.113.1, 198.51.100.7, 10.0.0.2"], Some("198.51.100.7")),
            ("10.0.0.1", &["203.0.113.1", "198.51.100.7", "10.0.0.2"], Some("198.51.100.7")),
            ("10.0.0.1", &["10.9.9.9, 10.0.0.2"], Some("10.9.9.9")),
            ("2001:db8::5", &["[2001:0:1::9]:4711"], Some("2001:0:1::9")),
            ("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2:80"], Some("10.0.0.2")),
            ("10.0.0.1", &[], None),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(found(peer, lines).as_deref(), expected, "{peer} {lines:?}");
        }
    }
}
