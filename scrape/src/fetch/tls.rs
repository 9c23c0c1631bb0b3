//! TLS for targets: whom we trust and who we are.

use super::ScrapeError;
use super::secrets::Secrets;
use crate::config::{TlsConfig, TlsVersion};
use model::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// Where distributions keep the authorities they trust; the first that exists is used.
pub(super) const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Certificates are judged by the clock of the port.
#[derive(Debug)]
struct PortTime(Arc<dyn Clock>);

impl TimeProvider for PortTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now)))
    }
}

/// Trusts whoever answers, as `insecure_skip_verify` asks for.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes the client's side of TLS.
///
/// # Errors
/// If a file is missing or holds something else, or no version is left.
pub(super) fn client_config(
    tls: &TlsConfig,
    secrets: &Secrets,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, ScrapeError> {
    let refuse = |what: String| ScrapeError::Tls(what);
    let provider = Arc::new(ring::default_provider());
    let min = tls.min_version.unwrap_or(TlsVersion::Tls12);
    let max = tls.max_version.unwrap_or(TlsVersion::Tls13);
    let versions: Vec<_> =
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (min..=max).contains(version))
            .map(|(_, version)| version)
            .collect();
    if versions.is_empty() {
        return Err(refuse("tls_config.max_version: versions before 1.2 are not supported".to_owned()));
    }
    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(PortTime(clock.clone())))
        .with_protocol_versions(&versions)
        .map_err(|e| refuse(e.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody(provider)))
    } else {
        builder.with_root_certificates(roots(tls, secrets)?)
    };
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(secrets.bytes(cert)?, "cert")?;
            let key = PrivateKeyDer::from_pem_slice(secrets.bytes(key)?)
                .map_err(|e| refuse(format!("tls_config.key: {e}")))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| refuse(e.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], field: &str) -> Result<Vec<CertificateDer<'static>>, ScrapeError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|e| ScrapeError::Tls(format!("tls_config.{field}: {e}")))?;
    if chain.is_empty() {
        return Err(ScrapeError::Tls(format!("tls_config.{field}: holds no certificate in PEM form")));
    }
    Ok(chain)
}

fn roots(tls: &TlsConfig, secrets: &Secrets) -> Result<RootCertStore, ScrapeError> {
    let mut store = RootCertStore::empty();
    let pem = match &tls.ca {
        Some(ca) => secrets.bytes(ca)?,
        None => secrets.system_roots()?,
    };
    let (added, _) = store.add_parsable_certificates(certificates(pem, "ca")?);
    if added == 0 {
        Err(ScrapeError::Tls("tls_config.ca: no usable certificate".to_owned()))
    } else {
        Ok(store)
    }
}

/// The name that the target's certificate must bear.
pub(super) fn server_name(tls: &TlsConfig, host: &str) -> Result<ServerName<'static>, ScrapeError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|e| ScrapeError::Tls(format!("server name {name:?}: {e}")))
}
