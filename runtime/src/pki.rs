//! A development authority: certificates for the processes of a cluster on one machine, and the key pair that signs
//! development tokens. A real deployment brings its own, with the same names ([`PeerName::dns_name`]) in them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::PeerName;

pub const CA_FILE: &str = "ca.pem";
pub const CA_KEY_FILE: &str = "ca.key";
/// PKCS#8 key that signs development tokens (ES256).
pub const JWT_KEY_FILE: &str = "jwt.key.pem";
/// Its public half, which every router has.
pub const JWT_PUBLIC_KEY_FILE: &str = "jwt.pub.pem";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot read or write {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: not a key that can sign")]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("cannot make a certificate for {name}")]
    Certificate { name: String, source: rcgen::Error },
}

/// The folder of a development authority.
#[derive(Debug, Clone)]
pub struct DevPki {
    dir: PathBuf,
}

impl DevPki {
    /// Makes what is missing of the authority, the certificates of `names` and the token keys; keeps what exists.
    pub fn create(dir: &Path, names: impl IntoIterator<Item = PeerName>) -> Result<Self, PkiError> {
        let io_error = |source| PkiError::Io { path: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error)?;
        let pki = Self { dir: dir.to_owned() };
        let issuer = pki.issuer()?;
        for name in names {
            pki.certificate(name, &issuer)?;
        }
        pki.token_keys()?;
        Ok(pki)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir.join(CA_FILE)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let key = self.key_pair(CA_KEY_FILE)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Tertulia development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let path = self.ca_file();
        if !path.exists() {
            let certificate = params
                .self_signed(&key)
                .map_err(|source| PkiError::Certificate { name: "the authority".to_owned(), source })?;
            write_new(&path, &certificate.pem())?;
        }
        // The same parameters and key give the same issuer as the certificate on disk.
        Ok(Issuer::new(params, key))
    }

    fn certificate(&self, name: PeerName, issuer: &Issuer<'static, KeyPair>) -> Result<(), PkiError> {
        let path = self.dir.join(format!("{name}.pem"));
        let key = self.key_pair(&format!("{name}.key"))?;
        if path.exists() {
            return Ok(());
        }
        let failed = |source| PkiError::Certificate { name: name.to_string(), source };
        let mut params = CertificateParams::new(vec![name.dns_name()]).map_err(failed)?;
        params.distinguished_name = common_name(&name.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, issuer).map_err(failed)?;
        write_new(&path, &certificate.pem())
    }

    fn token_keys(&self) -> Result<(), PkiError> {
        let key = self.key_pair(JWT_KEY_FILE)?;
        let path = self.dir.join(JWT_PUBLIC_KEY_FILE);
        if path.exists() { Ok(()) } else { write_new(&path, &key.public_key_pem()) }
    }

    fn key_pair(&self, file: &str) -> Result<KeyPair, PkiError> {
        let path = self.dir.join(file);
        match fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|source| PkiError::Key { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                    .map_err(|source| PkiError::Key { path: path.clone(), source })?;
                write_new(&path, &key.serialize_pem())?;
                Ok(key)
            }
            Err(source) => Err(PkiError::Io { path, source }),
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Readable by the owner alone, and complete or absent: a crash leaves no half-written key behind.
fn write_new(path: &Path, text: &str) -> Result<(), PkiError> {
    let io_error = |source| PkiError::Io { path: path.to_owned(), source };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(io_error)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_error)?;
    fs::rename(&partial, path).map_err(io_error)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use tertulia_shard_map::{NodeId, RouterId};

    use super::*;
    use crate::tls::{Identity, IdentityError};

    fn files(dir: &Path) -> BTreeMap<String, String> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        fs::read_dir(dir).unwrap().map(entry).collect()
    }

    #[test]
    fn a_second_run_keeps_what_exists_and_adds_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pki");
        let (node, router) = (PeerName::Node(NodeId::new(1)), PeerName::Router(RouterId::new(2)));
        DevPki::create(&dir, [node]).unwrap();
        let first = files(&dir);
        DevPki::create(&dir, [node, router, PeerName::Operator]).unwrap();
        let second = files(&dir);
        for (name, text) in &first {
            assert_eq!(second.get(name), Some(text), "{name} changed");
        }
        let mut names: Vec<_> = second.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "ca.key",
                "ca.pem",
                "jwt.key.pem",
                "jwt.pub.pem",
                "node-1.key",
                "node-1.pem",
                "operator.key",
                "operator.pem",
                "router-2.key",
                "router-2.pem"
            ]
        );
        assert!(second["jwt.key.pem"].starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(second["jwt.pub.pem"].starts_with("-----BEGIN PUBLIC KEY-----"));
        for name in [node, router, PeerName::Operator] {
            assert_eq!(Identity::load(name, &dir, &dir.join(CA_FILE)).unwrap().name(), name);
        }
    }

    #[test]
    fn an_identity_is_refused_where_the_certificate_is_of_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (one, two) = (PeerName::Node(NodeId::new(1)), PeerName::Node(NodeId::new(2)));
        DevPki::create(dir, [one, two]).unwrap();
        fs::copy(dir.join("node-2.pem"), dir.join("node-1.pem")).unwrap();
        let error = Identity::load(one, dir, &dir.join(CA_FILE)).unwrap_err();
        assert!(
            matches!(error, IdentityError::WrongName { expected, found, .. } if (expected, found) == (one, two)),
            "{error}"
        );
        let missing = Identity::load(PeerName::Operator, dir, &dir.join(CA_FILE)).unwrap_err();
        assert!(missing.to_string().contains("operator.pem"), "{missing}");
    }
}
