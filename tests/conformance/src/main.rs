//! Serves echoes over the router's WebSockets, for the original Autobahn suite:
//!
//! ```text
//! conformance-echo 127.0.0.1:9001
//! ```

use anyhow::Context as _;
use tertulia_test_conformance::echo;

/// As long as the longest of its section 9.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: conformance-echo HOST:PORT")?;
    let address = address.parse().with_context(|| format!("{address:?} is not HOST:PORT"))?;
    let (address, served) =
        echo::start(address, MESSAGE_BYTES_MAX).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("echoes at ws://{address}/v1/ws");
    served.await?;
    Ok(())
}
