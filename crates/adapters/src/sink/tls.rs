//! Whom connections that a sink opens trust.

use std::path::PathBuf;
use std::sync::Arc;

use super::SinkError;

/// The well-known certificates, and one more.
pub(super) fn client(extra: Option<PathBuf>) -> Result<rustls::ClientConfig, SinkError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra {
        let wrong = |what: String| SinkError::Setup {
            what: format!("{} is no certificate in PEM: {what}", path.display()),
        };
        let certificate =
            CertificateDer::from_pem_file(&path).map_err(|it| wrong(it.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SinkError::Setup { what: error.to_string() })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
