//! What load generators share: sessions over real WebSockets, texts that can be made again, and the cluster's processes.

pub mod body;
pub mod connection;
pub mod processes;
