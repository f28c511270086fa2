//! A real router without a cluster: no case needs one, for none says `hello`.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use tempfile::TempDir;
use tertulia_runtime::{PeerName, config::Config, pki::DevPki, tasks::Supervisor};
use tertulia_shard_map::RouterId;

pub struct Router {
    pub address: SocketAddr,
    _supervisor: Supervisor,
    /// Its keys.
    _folder: TempDir,
}

pub async fn start() -> anyhow::Result<Router> {
    let folder = tempfile::tempdir()?;
    let name = PeerName::Router(RouterId::new(1));
    DevPki::create(folder.path(), [name])?;
    let client = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = format!(
        r#"
        [tls]
        ca_file = "ca.pem"
        dir = "."
        [auth]
        public_key_file = "jwt.pub.pem"
        [stores.1]
        name = "a"
        dsn = "host=nowhere"
        [nodes.1]
        cluster_address = "127.0.0.1:1"
        admin_address = "127.0.0.1:1"
        home_store = 1
        [routers.1]
        client_address = "{client}"
        [redis]
        url = "redis://nowhere"
        "#
    );
    let config = Config::read(&text, &folder.path().join("cluster.toml"), [], &[])?;
    let supervisor = Supervisor::new();
    let listening =
        tertulia_router::start(name, &config, None, &supervisor).await.context("the router does not start")?;
    Ok(Router { address: listening.address, _supervisor: supervisor, _folder: folder })
}
