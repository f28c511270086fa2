//! Ports that no other cluster on this machine will take.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the ports that Linux gives to outgoing connections (from 32768), so that none of those can be in the way.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
/// Ports in one block; the first one is the block's lock.
const BLOCK: u16 = 40;

/// A block of ports, ours as long as this value lives: whoever holds the listening socket on the block's first port
/// owns the rest. The kernel closes it with the process, so no lock is ever left behind.
#[derive(Debug)]
pub struct PortBlock {
    _lock: TcpListener,
    next: u16,
    end: u16,
}

impl PortBlock {
    pub fn reserve() -> Self {
        let blocks = (LAST - FIRST) / BLOCK;
        let start = (std::process::id() as u16) % blocks;
        (0..blocks)
            .map(|i| FIRST + (start + i) % blocks * BLOCK)
            .find_map(Self::try_reserve)
            .expect("some block of ports is free")
    }

    fn try_reserve(first: u16) -> Option<Self> {
        let lock = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
        // Leftovers of a cluster that is just being cleaned up, or a stranger's server.
        let all_free = (first + 1..first + BLOCK).all(|port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        all_free.then_some(Self { _lock: lock, next: first + 1, end: first + BLOCK })
    }

    pub fn take(&mut self) -> u16 {
        assert!(self.next < self.end, "a cluster may have {} ports", BLOCK - 1);
        self.next += 1;
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_overlap() {
        let mut blocks: Vec<PortBlock> = (0..5).map(|_| PortBlock::reserve()).collect();
        let mut ports: Vec<u16> = blocks.iter_mut().flat_map(|block| [block.take(), block.take()]).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 10);
    }
}
