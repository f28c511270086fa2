//! Values of a configuration with a meaning of their own.

use std::{fmt, io, net::SocketAddr};

use serde::Deserialize;

/// `host:port`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: want host:port with a port from 1 to 65535")]
pub struct InvalidAddress(String);

impl Address {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first address that the name resolves to. Blocks where the name has to be looked up.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        use std::net::ToSocketAddrs;
        let nothing = || io::Error::new(io::ErrorKind::NotFound, format!("{self} resolves to no address"));
        self.0.to_socket_addrs()?.next().ok_or_else(nothing)
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
            let host_is_plain = host.starts_with('[') && host.ends_with(']') || !host.contains(':');
            !host.is_empty() && host_is_plain && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if valid { Ok(Self(text)) } else { Err(InvalidAddress(text)) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that may hold a password: never in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
