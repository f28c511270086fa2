//! The one configuration that all processes of a cluster share: `cluster.toml`, then environment variables
//! (`TERTULIA__SECTION__KEY=value`), then flags (`--set section.key=value`), each laid over the one before.
//!
//! A configuration is accepted as a whole or refused with one line that names the place, the key and what is allowed.
//! Every key has its unit in its name. Relative paths are relative to the folder of the file.

mod check;
mod error;
mod read;
mod sections;
mod tree;
mod values;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use tertulia_shard_map::{NodeId, RouterId, StoreId};

use self::{
    read::Reader,
    tree::{ENV_PREFIX, Node},
};

pub use error::{ConfigError, Problem, Unusable};
pub use sections::{
    AuthConfig, ClusterConfig, LimitsConfig, LogConfig, LogFormat, NodeConfig, NodeTuning, RedisConfig, RouterConfig,
    RouterTuning, StoreConfig, TlsConfig,
};
pub use tree::Place;
pub use values::{Address, InvalidAddress, InvalidHash, InvalidNetwork, Network, Secret, Sha256Hash};

/// `cluster.toml`, complete and checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub cluster: ClusterConfig,
    #[serde(default)]
    pub tls: TlsConfig,
    #[serde(default)]
    pub auth: AuthConfig,
    /// At least one.
    pub stores: BTreeMap<StoreId, StoreConfig>,
    /// At least one.
    pub nodes: BTreeMap<NodeId, NodeConfig>,
    #[serde(default)]
    pub routers: BTreeMap<RouterId, RouterConfig>,
    pub redis: RedisConfig,
    #[serde(default)]
    pub node: NodeTuning,
    #[serde(default)]
    pub router: RouterTuning,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub log: LogConfig,
}

impl Config {
    /// Reads the file, then lays `variables` (those that start with `TERTULIA__`) and `sets` over it.
    pub fn load(
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|error| ConfigError {
            place: Place::File(file.into()),
            problem: Problem::Unreadable(error.to_string()),
        })?;
        Self::read(&text, file, variables, sets)
    }

    /// Like [`Config::load`], with the text of the file in hand.
    pub fn read(
        text: &str,
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let file: Arc<Path> = file.into();
        let mut tree = Node::parse(text, &file)?;
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        // Their order is the platform's whim; a complaint should not be.
        variables.sort();
        for (name, value) in &variables {
            tree.overlay_variable(name, value)?;
        }
        for flag in sets {
            tree.overlay_flag(flag)?;
        }
        let mut config = Self::deserialize(Reader::new(&tree)).map_err(|error| ConfigError {
            place: error.place.unwrap_or_else(|| Place::File(file.clone())),
            problem: error.problem,
        })?;
        config.check(&tree)?;
        config.resolve_paths(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        resolve(&mut self.cluster.data_dir);
        resolve(&mut self.tls.ca_file);
        resolve(&mut self.tls.dir);
        resolve(&mut self.auth.public_key_file);
        if let Some(path) = &mut self.auth.dev_signing_key_file {
            resolve(path);
        }
    }
}

#[cfg(test)]
mod tests;
