//! TLS towards a relay.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The configuration for relays that the system's roots vouch for, or one of these, in PEM.
pub(crate) fn config(more: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(more) {
        let root = root.map_err(|error| format!("a root certificate cannot be read: {error}"))?;
        roots.add(root).map_err(|error| format!("a root certificate is not right: {error}"))?;
    }
    // A system may have roots that cannot be read beside those that can.
    let of_system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(of_system.certs);
    if roots.is_empty() {
        return Err("this system has no root certificates; install its ca-certificates, or name \
                    the file of the relay's"
            .to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
