//! The identity of a process (certificate, key, and the authority it trusts) and what QUIC makes of it.
//!
//! TLS 1.3 only, both sides show a certificate, one cipher suite: AES-128-GCM, the fastest that both ends have in
//! hardware. No session resumption: every connection proves its certificate anew.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quinn::crypto::{
    CryptoError, HmacKey,
    rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::{
        CryptoProvider, aws_lc_rs,
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        tls13::{Hkdf, OkmBlock},
    },
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tertulia_wire::cluster::ALPN;

use crate::{InvalidPeerName, PeerName};

/// Certificate, key and trusted authority of this process.
#[derive(Debug)]
pub struct Identity {
    name: PeerName,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

/// Names the section of the configuration that it comes from.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("[tls] cannot read {path}")]
    Unreadable { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("[tls] {path}: not usable")]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("[tls] {path}: names no process")]
    Nameless { path: PathBuf, source: PeerNameError },
    #[error("[tls] {path} is the certificate of {found}, not of {expected}")]
    WrongName { path: PathBuf, expected: PeerName, found: PeerName },
}

#[derive(Debug, thiserror::Error)]
pub enum PeerNameError {
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the certificate cannot be parsed")]
    Unparsable(#[source] webpki::Error),
    #[error("the certificate has {0} DNS names: want exactly one")]
    NotOneName(usize),
    #[error(transparent)]
    Invalid(#[from] InvalidPeerName),
}

/// The TLS configuration cannot be built from an identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS rejects the certificate or key")]
    Rejected(#[from] rustls::Error),
    #[error("TLS cannot verify certificates of peers")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("TLS lacks the cipher suite of QUIC's first packets")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

impl Identity {
    /// Reads `dir/<name>.pem`, `dir/<name>.key` and `ca_file`, and checks that the certificate is the one of `name`.
    pub fn load(name: PeerName, dir: &Path, ca_file: &Path) -> Result<Self, IdentityError> {
        let chain_path = dir.join(format!("{name}.pem"));
        let key_path = dir.join(format!("{name}.key"));
        let chain = read_certificates(&chain_path)?;
        let key = PrivateKeyDer::from_pem_file(&key_path)
            .map_err(|source| IdentityError::Unreadable { path: key_path, source })?;
        let mut roots = RootCertStore::empty();
        for root in read_certificates(ca_file)? {
            roots.add(root).map_err(|source| IdentityError::Unusable { path: ca_file.to_owned(), source })?;
        }
        let found = peer_name(&chain).map_err(|source| IdentityError::Nameless { path: chain_path.clone(), source })?;
        if found != name {
            return Err(IdentityError::WrongName { path: chain_path, expected: name, found });
        }
        Ok(Self { name, chain, key, roots: Arc::new(roots) })
    }

    pub fn name(&self) -> PeerName {
        self.name
    }

    /// For the side that connects; which peer it wants it says when it connects.
    pub(crate) fn client_config(&self) -> Result<Arc<QuicClientConfig>, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config.try_into()?))
    }

    /// For the side that accepts; any process of the cluster may connect, see [`peer_name`].
    pub(crate) fn server_config(&self) -> Result<Arc<QuicServerConfig>, TlsError> {
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone()).build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config.try_into()?))
    }

    /// The same after a restart, so that a restarted process can tell its peers at once that their connections to its
    /// former self are gone. Without it they would find out by the idle timeout.
    pub(crate) fn reset_key(&self) -> Option<Arc<dyn HmacKey>> {
        let hkdf = TLS13_AES_128_GCM_SHA256.tls13()?.hkdf_provider;
        let secret = hkdf.extract_from_secret(Some(b"tertulia/stateless-reset/v1"), self.key.secret_der());
        Some(Arc::new(ResetKey { hkdf, key: secret.expand_block(&[b"hmac"]) }))
    }
}

/// The process that a verified certificate chain belongs to.
pub fn peer_name(chain: &[CertificateDer<'_>]) -> Result<PeerName, PeerNameError> {
    let leaf = chain.first().ok_or(PeerNameError::NoCertificate)?;
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(PeerNameError::Unparsable)?;
    let names: Vec<&str> = certificate.valid_dns_names().collect();
    match names[..] {
        [name] => Ok(PeerName::from_dns_name(name)?),
        _ => Err(PeerNameError::NotOneName(names.len())),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        let empty = io::Error::new(io::ErrorKind::InvalidData, "no certificate in it");
        return Err(unreadable(rustls_pki_types::pem::Error::Io(empty)));
    }
    Ok(chain)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![TLS13_AES_128_GCM_SHA256], ..aws_lc_rs::default_provider() })
}

struct ResetKey {
    hkdf: &'static dyn Hkdf,
    key: OkmBlock,
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(self.hkdf.hmac_sign(&self.key, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.hkdf.hmac_sign(&self.key, data).as_ref() == signature { Ok(()) } else { Err(CryptoError) }
    }
}
