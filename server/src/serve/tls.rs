//! TLS of the relay's listener. The certificate and its key are read again when their files change;
//! connections that are open keep theirs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files of a certificate and of its private key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }
}

/// The certificate or its key is not right.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has nothing of the kind in it.
    #[error("{} has no {what} in PEM: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it is to have.
        what: &'static str,
        /// The reason why it has none.
        reason: String,
    },
    /// The two do not belong together, or cannot be used.
    #[error("{} and {} cannot be used together: {reason}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The reason why not.
        reason: String,
    },
}

/// Reads a certificate and its key.
///
/// # Errors
/// One of them is not right, or they do not belong together.
pub(super) fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let of = |path: &Path, what| {
        let path = path.to_owned();
        move |reason: String| TlsError::File { path, what, reason }
    };
    let wrong = of(&files.certificate, "certificate");
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string());
    let certificates = match certificates {
        Ok(some) if some.is_empty() => return Err(wrong("it is empty".to_owned())),
        Ok(some) => some,
        Err(reason) => return Err(wrong(reason)),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|error| of(&files.key, "private key")(error.to_string()))?;
    let pair = |error: rustls::Error| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(pair)?;
    Ok(Arc::new(config))
}

/// Reads the files again when they change, for as long as it is polled. Files that are not right
/// change nothing, as they may be half written.
pub(super) async fn follow(
    files: TlsFiles,
    stamps_read: Stamps,
    config: watch::Sender<Arc<ServerConfig>>,
) {
    let (mut before, mut refused) = (stamps_read, None);
    loop {
        sleep(LOOK_AFTER).await;
        let now = stamps(&files);
        if now == before {
            continue;
        }
        match read(&files) {
            Ok(fresh) => {
                config.send_replace(fresh);
                tracing::info!("the certificate was read again");
                before = now;
            }
            Err(error) => {
                // Said once for each state of the files.
                if refused.as_ref() != Some(&now) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the certificate stays as it was");
                }
                refused = Some(now);
            }
        }
    }
}

/// How the files look. They are to be looked at before they are read.
pub(super) fn stamps(files: &TlsFiles) -> Stamps {
    [&files.certificate, &files.key].map(|path| {
        let metadata: io::Result<_> = path.metadata();
        let metadata = metadata.ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

/// When each file was written, and its bytes.
pub(super) type Stamps = [Option<(SystemTime, u64)>; 2];

/// The time between two looks whether a file changed.
const LOOK_AFTER: Duration = Duration::from_secs(2);
