//! PEM files for TLS: read in the same way when the configuration is checked and when a connection
//! is made.

use native_tls::{Certificate, Identity};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// What is wrong with which of a client's two files, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The certificate's.
    Certificate(&'static str),
    /// The key's.
    Key(&'static str),
}

/// The authorities in a `ca_file`; at least one.
///
/// # Errors
/// What is wrong with the file, and what to do about it.
pub fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, &'static str> {
    let certificates = Certificate::stack_from_pem(pem)
        .map_err(|_| "a certificate in it is damaged; name a PEM file with the CA's certificate")?;
    match certificates.is_empty() {
        true => Err("no certificate in it; name a PEM file with the CA's certificate"),
        false => Ok(certificates),
    }
}

/// A client's certificate, with those that lead to its authority behind it, and its key, in any
/// form that OpenSSL reads: PKCS#8, PKCS#1, SEC1.
///
/// # Errors
/// Which file is wrong, and how.
pub fn identity(cert: &[u8], key: &[u8]) -> Result<Identity, Unusable> {
    let certificates = X509::stack_from_pem(cert).map_err(|_| {
        Unusable::Certificate(
            "a certificate in it is damaged; name a PEM file with the client's certificate",
        )
    })?;
    let certificate = certificates.first().ok_or(Unusable::Certificate(
        "no certificate in it; name a PEM file with the client's certificate",
    ))?;
    let key = private_key(key).map_err(Unusable::Key)?;
    if !certificate
        .public_key()
        .is_ok_and(|public| public.public_eq(&key))
    {
        return Err(Unusable::Key(
            "not the key of the first certificate in cert_file; name the key that belongs to it",
        ));
    }
    let damaged =
        Unusable::Key("the key in it cannot be used; name a PEM file with an RSA or EC key");
    let key = key.private_key_to_pem_pkcs8().map_err(|_| damaged)?;
    Identity::from_pkcs8(cert, &key).map_err(|_| damaged)
}

fn private_key(pem: &[u8]) -> Result<PKey<Private>, &'static str> {
    // Without this function OpenSSL asks for the password on the terminal.
    let mut encrypted = false;
    PKey::private_key_from_pem_callback(pem, |_| {
        encrypted = true;
        Ok(0)
    })
    .map_err(|_| match encrypted {
        true => {
            "the key in it is encrypted; decrypt it once with: openssl pkey -in FILE -out NEW_FILE"
        }
        false => "no private key in it; name a PEM file with the client's key",
    })
}
