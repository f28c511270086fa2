//! Who a process is: its role and id, as its certificate says.

use std::{fmt, str::FromStr};

use tertulia_shard_map::{NodeId, RouterId};

const DOMAIN: &str = ".tertulia.internal";
const OPERATOR: &str = "operator";

/// The name of a process. Its DNS form is the only subject alternative name of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerName {
    Node(NodeId),
    Router(RouterId),
    /// A person, through `tertuliactl`.
    Operator,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no process: want node-N, router-N or operator, then {DOMAIN}")]
pub struct InvalidPeerName(String);

impl PeerName {
    /// As in a certificate: `node-1.tertulia.internal`.
    pub fn dns_name(&self) -> String {
        format!("{self}{DOMAIN}")
    }

    /// From a certificate's DNS name, which must be written exactly as [`PeerName::dns_name`] does.
    pub fn from_dns_name(name: &str) -> Result<Self, InvalidPeerName> {
        name.strip_suffix(DOMAIN).and_then(Self::from_short).ok_or_else(|| InvalidPeerName(name.to_owned()))
    }

    fn from_short(name: &str) -> Option<Self> {
        if name == OPERATOR {
            return Some(Self::Operator);
        }
        let (role, id) = name.split_once('-')?;
        let number: u32 = id.parse().ok()?;
        // One spelling per process: neither "node-01" nor "node-+1".
        if number == 0 || id != number.to_string() {
            return None;
        }
        match role {
            "node" => Some(Self::Node(NodeId::new(number))),
            "router" => Some(Self::Router(RouterId::new(number))),
            _ => None,
        }
    }
}

/// The short form, as in logs and file names: `node-1`.
impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node-{id}"),
            Self::Router(id) => write!(f, "router-{id}"),
            Self::Operator => f.write_str(OPERATOR),
        }
    }
}

impl FromStr for PeerName {
    type Err = InvalidPeerName;

    fn from_str(name: &str) -> Result<Self, InvalidPeerName> {
        Self::from_short(name).ok_or_else(|| InvalidPeerName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_dns_form() {
        for name in [PeerName::Node(NodeId::new(1)), PeerName::Router(RouterId::new(4_294_967_295)), PeerName::Operator]
        {
            assert_eq!(PeerName::from_dns_name(&name.dns_name()), Ok(name));
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!(PeerName::Node(NodeId::new(7)).dns_name(), "node-7.tertulia.internal");
    }

    #[test]
    fn only_one_spelling_of_a_name_is_accepted() {
        for name in [
            "node-1",
            "node-01.tertulia.internal",
            "node-+1.tertulia.internal",
            "node-0.tertulia.internal",
            "node-.tertulia.internal",
            "node-4294967296.tertulia.internal",
            "NODE-1.tertulia.internal",
            "worker-1.tertulia.internal",
            "operator.tertulia.internal.evil",
            "",
        ] {
            assert!(PeerName::from_dns_name(name).is_err(), "{name:?} was accepted");
        }
    }
}
